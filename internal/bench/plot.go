package bench

import (
	"fmt"
	"io"
	"strings"
)

// The plot's measures, in pixels.
const (
	plotWidth, plotHeight = 860, 330
	panelTop, panelHeight = 50, 210
)

// panel is one diagram of bars, with a value above and a name below each.
type panel struct {
	title       string
	left, width int
	names       []string
	values      []float64
	color       string
}

// Plot draws throughput and memory against size and connections as SVG.
func Plot(out io.Writer, points []Point) error {
	series := func(name string, value func(Point) float64) (names []string, values []float64) {
		for _, p := range points {
			if p.Series == name {
				label := p.Name
				if name == "size" {
					label = fmt.Sprintf("%s %.1f GB", p.Name, float64(p.Bytes)/1e9)
				}
				names, values = append(names, label), append(values, value(p))
			}
		}
		return names, values
	}
	rss := func(p Point) float64 { return p.Usage.PeakRSSMiB }
	panels := []panel{
		{title: "MB/s by size", left: 20, width: 250, color: "#2f6f9f"},
		{title: "peak RSS in MiB by size", left: 305, width: 250, color: "#9f5f2f"},
		{title: "MB/s by connections", left: 590, width: 250, color: "#2f6f9f"},
	}
	panels[0].names, panels[0].values = series("size", Point.MBPerSecond)
	panels[1].names, panels[1].values = series("size", rss)
	panels[2].names, panels[2].values = series("connections", Point.MBPerSecond)
	var svg strings.Builder
	fmt.Fprintf(&svg, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="13" role="img">`+
		`<title>First load by ingestd: throughput and memory against size and connections</title>`+
		`<rect width="100%%" height="100%%" fill="#ffffff"/>`, plotWidth, plotHeight)
	for _, p := range panels {
		p.draw(&svg)
	}
	svg.WriteString("</svg>\n")
	if _, err := io.WriteString(out, svg.String()); err != nil {
		return fmt.Errorf("write the plot: %w", err)
	}
	return nil
}

func (p panel) draw(svg *strings.Builder) {
	bottom := panelTop + panelHeight
	fmt.Fprintf(svg, "\n"+`<text x="%d" y="30" font-weight="bold" fill="#222222">%s</text>`, p.left, p.title)
	fmt.Fprintf(svg, `<line x1="%d" y1="%d" x2="%d" y2="%d" stroke="#888888"/>`, p.left, bottom, p.left+p.width, bottom)
	var most float64
	for _, v := range p.values {
		most = max(most, v)
	}
	for i, v := range p.values {
		slot := p.width / len(p.values)
		height := int(v / most * (panelHeight - 20))
		x := p.left + i*slot
		fmt.Fprintf(svg, `<rect x="%d" y="%d" width="%d" height="%d" fill="%s"/>`, x+slot/5, bottom-height, slot*3/5, height, p.color)
		for _, label := range []struct {
			y    int
			text string
		}{{bottom - height - 6, fmt.Sprintf("%.0f", v)}, {bottom + 20, p.names[i]}} {
			fmt.Fprintf(svg, `<text x="%d" y="%d" text-anchor="middle" fill="#222222">%s</text>`, x+slot/2, label.y, label.text)
		}
	}
}
