package script

import (
	"bytes"
	"encoding/binary"
	"image"
	"image/color"
	"image/png"
	"math"
)

// The sample site's pictures are computed, so that they are ours and as large as
// wanted.

// paint returns a PNG of coloured waves; seed makes pictures differ.
func paint(width, height int, seed float64) []byte {
	img := image.NewNRGBA(image.Rect(0, 0, width, height))
	for y := range height {
		for x := range width {
			u, v := float64(x)/float64(width), float64(y)/float64(height)
			a := math.Sin(6*u + seed + 2*math.Sin(4*v+seed))
			b := math.Cos(5*v - seed + 2*math.Cos(3*u))
			img.SetNRGBA(x, y, color.NRGBA{shade(a), shade(a * b), shade(b), 255})
		}
	}
	return encode(img)
}

func shade(x float64) uint8 { return uint8(128 + 100*x) }

// icon returns the favicon: an ICO file with one PNG of 32 by 32 pixels, an "e"
// in the site's own letters.
func icon() []byte {
	const side, cell = 32, 6
	img := image.NewNRGBA(image.Rect(0, 0, side, side))
	rows := glyphs['E']
	for y := range side {
		for x := range side {
			c := color.NRGBA{0x14, 0x2b, 0x4d, 255}
			column, row := (x-7)/cell, (y-1)/cell
			if x >= 7 && y >= 1 && column < 3 && row < 5 && rows>>(14-3*row-column)&1 == 1 {
				c = color.NRGBA{0xff, 0xb4, 0x3a, 255}
			}
			img.SetNRGBA(x, y, c)
		}
	}
	picture := encode(img)
	var ico bytes.Buffer
	binary.Write(&ico, binary.LittleEndian, []uint16{0, 1, 1}) // reserved, icon, one picture
	ico.Write([]byte{side, side, 0, 0})
	binary.Write(&ico, binary.LittleEndian, []uint16{1, 32})
	binary.Write(&ico, binary.LittleEndian, []uint32{uint32(len(picture)), 22})
	ico.Write(picture)
	return ico.Bytes()
}

func encode(img image.Image) []byte {
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		panic("script: encode a picture of our own: " + err.Error())
	}
	return b.Bytes()
}
