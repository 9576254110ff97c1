package chaos

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// The plot's measures, in pixels.
const (
	plotWidth, rowHeight     = 860, 190
	panelWidth, panelHeight  = 390, 110
	panelLeft, panelTop      = 20, 40
	panelsInARow, panelPitch = 2, 430
)

// lineColors tell instances apart, also for those who see no colours: they differ in lightness.
var lineColors = []string{"#1f4f7f", "#c0562b", "#6aa84f", "#8e63a8"}

// Plot draws the series as SVG, a diagram for each measure with a line for each whom it is of.
func Plot(out io.Writer, total time.Duration, all []Series) error {
	var panels [][]Series
	for _, s := range all {
		if n := len(panels); n > 0 && panels[n-1][0].Measure == s.Measure {
			panels[n-1] = append(panels[n-1], s)
			continue
		}
		panels = append(panels, []Series{s})
	}
	var svg strings.Builder
	height := (len(panels) + panelsInARow - 1) / panelsInARow * rowHeight
	fmt.Fprintf(&svg, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="13" role="img">`+
		`<title>A soak of %s: what each instance and Postgres hold, over time</title>`+
		`<rect width="100%%" height="100%%" fill="#ffffff"/>`, plotWidth, height, total)
	for n, lines := range panels {
		drawPanel(&svg, panelLeft+n%panelsInARow*panelPitch, n/panelsInARow*rowHeight+panelTop, total, lines)
	}
	svg.WriteString("\n</svg>\n")
	if _, err := io.WriteString(out, svg.String()); err != nil {
		return fmt.Errorf("write the plot: %w", err)
	}
	return nil
}

// drawPanel draws one diagram from zero to its highest value. What is not judged is grey.
func drawPanel(svg *strings.Builder, left, top int, total time.Duration, lines []Series) {
	var most float64
	for _, s := range lines {
		most = max(most, s.highest())
	}
	most = max(most, 1) * 1.1
	bottom := top + panelHeight
	fmt.Fprintf(svg, "\n"+`<rect x="%d" y="%d" width="%d" height="%d" fill="#eeeeee"/>`, left, top, panelWidth/3, panelHeight)
	fmt.Fprintf(svg, `<text x="%d" y="%d" font-weight="bold" fill="#222222">%s</text>`, left, top-10, lines[0].Measure)
	fmt.Fprintf(svg, `<text x="%d" y="%d" text-anchor="end" fill="#555555">highest %.0f</text>`, left+panelWidth, top-10, most/1.1)
	fmt.Fprintf(svg, `<line x1="%d" y1="%d" x2="%d" y2="%d" stroke="#888888"/>`, left, bottom, left+panelWidth, bottom)
	for n, s := range lines {
		var points strings.Builder
		for i, v := range s.Values {
			x := float64(left) + s.At[i]/total.Seconds()*panelWidth
			fmt.Fprintf(&points, "%.1f,%.1f ", x, float64(bottom)-v/most*panelHeight)
		}
		fmt.Fprintf(svg, `<polyline points="%s" fill="none" stroke="%s" stroke-width="1.5"/>`, strings.TrimSpace(points.String()), lineColors[n%len(lineColors)])
	}
	fmt.Fprintf(svg, `<text x="%d" y="%d" fill="#555555">0</text>`, left, bottom+18)
	fmt.Fprintf(svg, `<text x="%d" y="%d" text-anchor="end" fill="#555555">%s</text>`, left+panelWidth, bottom+18, total)
}
