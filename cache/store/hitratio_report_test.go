package store

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// writeTable writes the ratios as a results file that docs/performance.md is
// assembled from.
func writeTable(root string, found []ratios) error {
	columns := []string{"trace", "size"}
	for _, c := range contestants {
		columns = append(columns, c.name)
	}
	var rows [][]string
	for _, r := range found {
		row := []string{r.trace, fmt.Sprintf("%g %%", r.share*100)}
		for i := range contestants {
			row = append(row, fmt.Sprintf("%.3f / %.3f", r.object[i], r.byBytes[i]))
		}
		rows = append(rows, append(row, fmt.Sprintf("%.2f", r.toBest())))
	}
	text, err := json.MarshalIndent(map[string]any{
		"topic": "hitratio",
		"title": "Hit ratios of the memory tier",
		"text": "Object / byte hit ratio after the first quarter of each trace, by size of the memory as a part of the bytes of all objects. " +
			"adaptsize: real requests; metacdn: drawn from popularity and sizes of Meta's CDN; zipf09: synthetic, three requests in ten to objects asked for once. " +
			"The last column is our object hit ratio as a part of the best of the others'. All count bytes; ours keeps no body over 1 MiB.\n\n" +
			"![Object hit ratio by policy](hitratio.svg)",
		"date":     time.Now().UTC().Format(time.DateOnly),
		"command":  "make bench-hitratio",
		"machine":  fmt.Sprintf("%s/%s", runtime.GOOS, runtime.GOARCH),
		"versions": map[string]string{"go": runtime.Version(), "ristretto": "ristretto v2.4.2"},
		"columns":  append(columns, "ours to best"),
		"rows":     rows,
	}, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(root, "bench/results/hitratio.json"), append(text, '\n'), 0o644)
}

// Measures of the plot, in pixels.
const (
	plotBar    = 12
	plotGap    = 34
	plotHeight = 220
	plotLeft   = 40
)

var plotColours = []string{"#0b6e4f", "#c9c9c9", "#a9a9a9", "#7d8da1", "#4f6d8f", "#b58d3d", "#b3543f"}

// writePlot draws the object hit ratios as bars, one group for each trace and
// size.
func writePlot(root string, found []ratios) error {
	group := plotBar*len(contestants) + plotGap
	width := plotLeft + group*len(found)
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="11">`+"\n", width, plotHeight+70)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="white"/>`+"\n", width, plotHeight+70)
	for tenth := 0; tenth <= 7; tenth += 1 {
		y := plotHeight - tenth*plotHeight/8 + 10
		fmt.Fprintf(&b, `<line x1="%d" x2="%d" y1="%d" y2="%d" stroke="#e5e5e5"/><text x="6" y="%d">0.%d</text>`+"\n", plotLeft-8, width, y, y, y+4, tenth)
	}
	for g, r := range found {
		x := plotLeft + g*group
		for i, ratio := range r.object {
			h := int(ratio * plotHeight / 0.8)
			fmt.Fprintf(&b, `<rect x="%d" y="%d" width="%d" height="%d" fill="%s"><title>%s, %s at %g %%: %.3f</title></rect>`+"\n",
				x+i*plotBar, plotHeight+10-h, plotBar-1, h, plotColours[i], contestants[i].name, r.trace, r.share*100, ratio)
		}
		fmt.Fprintf(&b, `<text x="%d" y="%d">%s %g %%</text>`+"\n", x, plotHeight+26, r.trace, r.share*100)
	}
	for i, c := range contestants {
		x := plotLeft + i*110
		fmt.Fprintf(&b, `<rect x="%d" y="%d" width="10" height="10" fill="%s"/><text x="%d" y="%d">%s</text>`+"\n", x, plotHeight+45, plotColours[i], x+15, plotHeight+54, c.name)
	}
	b.WriteString("</svg>\n")
	return os.WriteFile(filepath.Join(root, "docs/hitratio.svg"), []byte(b.String()), 0o644)
}
