package dnsgeo

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Point is a place on the earth, in degrees.
type Point struct{ Latitude, Longitude float64 }

// ParsePoint reads "latitude,longitude".
func ParsePoint(text string) (Point, error) {
	a, b, ok := strings.Cut(text, ",")
	lat, err1 := strconv.ParseFloat(strings.TrimSpace(a), 64)
	lon, err2 := strconv.ParseFloat(strings.TrimSpace(b), 64)
	if !ok || err1 != nil || err2 != nil || !(math.Abs(lat) <= 90) || !(math.Abs(lon) <= 180) {
		return Point{}, fmt.Errorf(`%q is no place: write latitude and longitude in degrees, such as "50.1,8.7"`, text)
	}
	return Point{lat, lon}, nil
}

// vector is a point on the unit sphere. The nearer two of them are, the larger
// is their product: an order by distance needs no trigonometry.
type vector [3]float64

func (p Point) vector() vector {
	lat, lon := p.Latitude*math.Pi/180, p.Longitude*math.Pi/180
	return vector{math.Cos(lat) * math.Cos(lon), math.Cos(lat) * math.Sin(lon), math.Sin(lat)}
}

func (v vector) dot(w vector) float64 { return v[0]*w[0] + v[1]*w[1] + v[2]*w[2] }

const earthRadius = 6371 // kilometres

// kilometres along the great circle.
func (v vector) kilometres(w vector) int {
	// By the chord, which stays exact where points are near each other.
	x, y, z := v[0]-w[0], v[1]-w[1], v[2]-w[2]
	return int(math.Round(2 * earthRadius * math.Asin(min(1, math.Sqrt(x*x+y*y+z*z)/2))))
}
