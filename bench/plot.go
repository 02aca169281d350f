package main

// Plots of results: a group of bars for each row, a bar for each side.

import (
	"fmt"
	"slices"
	"strings"
)

// bars is a row of a result to be drawn: µs a request by side.
type bars struct {
	Name string    `json:"name"`
	Cost []float64 `json:"us_per_request"`
}

const (
	plotLeft, plotRight = 190, 470 // where bars begin, how long they may be
	plotBar, plotGap    = 14, 12
)

var plotColours = []string{"#1f77b4", "#999999", "#d8b365", "#7fbf7b"} // as many as a topic may have sides

func (r *result) plotFile() string { return "bench-" + r.Topic + ".svg" }

// plot draws bars to the scale of each row, for rows differ by orders of magnitude.
func (r *result) plot() string {
	var b strings.Builder
	group := plotBar*len(r.Bars[0].Cost) + plotGap
	height := group*len(r.Bars) + 40
	width := plotLeft + plotRight + 90
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="11">`+"\n", width, height)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="white"/>`+"\n", width, height)
	for side := range r.Bars[0].Cost {
		x := plotLeft + side*135
		fmt.Fprintf(&b, `<rect x="%d" y="8" width="10" height="10" fill="%s"/><text x="%d" y="17">%s</text>`+"\n", x, plotColours[side], x+15, r.Columns[1+side])
	}
	for i, row := range r.Bars {
		top := 30 + i*group
		fmt.Fprintf(&b, `<text x="6" y="%d">%s</text>`+"\n", top+11, row.Name)
		scale := plotRight / slices.Max(row.Cost)
		for side, cost := range row.Cost {
			y := top + side*plotBar
			long := int(cost * scale)
			fmt.Fprintf(&b, `<rect x="%d" y="%d" width="%d" height="%d" fill="%s"/><text x="%d" y="%d">%.1f µs</text>`+"\n",
				plotLeft, y, long, plotBar-2, plotColours[side], plotLeft+long+6, y+10, cost)
		}
	}
	b.WriteString("</svg>\n")
	return b.String()
}
