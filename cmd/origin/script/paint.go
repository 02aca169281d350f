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

// paint returns a PNG of waves between two colours; seed makes pictures differ.
// A palette keeps painting and packing cheap.
func paint(width, height int, seed float64, from, to color.NRGBA) []byte {
	const shades = 64
	palette := make(color.Palette, shades)
	for i := range palette {
		t := (1 + math.Cos(2*math.Pi*float64(i)/shades)) / 2
		palette[i] = color.NRGBA{blend(from.R, to.R, t), blend(from.G, to.G, t), blend(from.B, to.B, t), 255}
	}
	across := make([]float64, width)
	for x := range across {
		across[x] = math.Sin(5*float64(x)/float64(width) + seed)
	}
	img := image.NewPaletted(image.Rect(0, 0, width, height), palette)
	for y := range height {
		v := float64(y) / float64(height)
		down := math.Cos(4*v-seed) + v
		for x := range width {
			img.Pix[y*img.Stride+x] = uint8(int(shades*(2+across[x]*down/2+v)) % shades)
		}
	}
	return encode(img)
}

func blend(a, b uint8, t float64) uint8 { return uint8(float64(a)*(1-t) + float64(b)*t) }

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
	encoder := png.Encoder{CompressionLevel: png.BestSpeed}
	if err := encoder.Encode(&b, img); err != nil {
		panic("script: encode a picture of our own: " + err.Error())
	}
	return b.Bytes()
}
