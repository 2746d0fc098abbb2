package recording

import (
	"encoding/xml"
	"fmt"
	"strings"
)

const svgStyle = `
  svg { background: #fff; color: #1b1f24; --volume: #0b62c4; --datapath: #8a3fb5; --bad: #b3261e; --dim: #8b949e; }
  @media (prefers-color-scheme: dark) {
    svg { background: #15181c; color: #e6e8eb; --volume: #6cb2ff; --datapath: #d19bf0; --bad: #ff8a80; --dim: #7d8590; }
  }
  text { font: 12px ui-monospace, monospace; fill: currentColor; }
  .head { font-weight: bold; text-anchor: middle; }
  .time { fill: var(--dim); }
  .lane { stroke: var(--dim); stroke-dasharray: 2 4; }
  .volume { stroke: var(--volume); fill: var(--volume); }
  .datapath { stroke: var(--datapath); fill: var(--datapath); }
  .bad { stroke: var(--bad); fill: var(--bad); }
  text.bad { stroke: none; }
  .back { stroke-dasharray: 5 3; }
  .busy { fill-opacity: .25; }
`

// Geometry of the SVG, in pixels.
const (
	svgWidth     = 1100
	svgRow       = 24
	svgTop       = 48
	svgToolstack = 130
	svgVolume    = 760
	svgDatapath  = 1010
)

// SVG draws what Chart draws as one file without references to others. The bar on
// a plugin's lane lasts from the request to the answer; those of calls in progress
// at once are side by side. A tooltip tells all of a request and its answer.
func SVG(calls []Call, n int) string {
	calls, events := timeline(calls, n)
	height := svgTop + (len(events)+1)*svgRow
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %[1]d %[2]d">`+"\n", svgWidth, height)
	fmt.Fprintf(&b, "<title>%d calls</title>\n<style>%s</style>\n", len(calls), svgStyle)
	for _, lane := range []struct {
		at   int
		name string
	}{{svgToolstack, "toolstack"}, {svgVolume, "volume plugin"}, {svgDatapath, "datapath plugin"}} {
		fmt.Fprintf(&b, `<text class="head" x="%d" y="24">%s</text><line class="lane" x1="%[1]d" y1="32" x2="%[1]d" y2="%[3]d"/>`+"\n",
			lane.at, lane.name, height-8)
	}
	bars := make([]bar, len(calls))
	var columns []bool // taken
	for row, e := range events {
		c, y := calls[e.call], svgTop+row*svgRow+svgRow/2
		lane, class := svgVolume, "volume"
		if c.toDatapath() {
			lane, class = svgDatapath, "datapath"
		}
		if !e.answer {
			column := 0
			for column < len(columns) && columns[column] {
				column++
			}
			if column == len(columns) {
				columns = append(columns, false)
			}
			columns[column] = true
			bars[e.call] = bar{x: lane + 8*min(column, 8), y: y, column: column}
			fmt.Fprintf(&b, `<text class="time" x="8" y="%d">%s</text>`+"\n", y+4, e.at.Format("15:04:05.000"))
			label := fmt.Sprintf("%d %s %s", e.call+1, c.Call, c.arguments())
			arrow(&b, c, class, svgToolstack, bars[e.call].x, y, label, 82)
			continue
		}
		start := bars[e.call]
		columns[start.column] = false
		label := fmt.Sprintf("%d %s (%v)", e.call+1, c.outcome(), rounded(c.Duration()))
		if c.Status != 0 {
			class = "bad"
		}
		fmt.Fprintf(&b, `<rect class="%s busy" x="%d" y="%d" width="6" height="%d"/>`+"\n", class, start.x, start.y, y-start.y)
		arrow(&b, c, class+" back", start.x, svgToolstack, y, label, 82)
	}
	b.WriteString("</svg>\n")
	return b.String()
}

// bar is where a call's bar begins.
type bar struct{ x, y, column int }

func arrow(b *strings.Builder, c Call, class string, from, to, y int, label string, most int) {
	tip := 6
	if to > from {
		tip = -6
	}
	fmt.Fprintf(b, `<g><title>%s</title><line class="%s" x1="%d" y1="%d" x2="%d" y2="%[4]d"/>`, escape(c.whole()), class, from, y, to)
	fmt.Fprintf(b, `<polygon class="%s" points="%d,%d %d,%d %[4]d,%[6]d"/>`, strings.TrimSuffix(class, " back"), to, y, to+tip, y-4, y+4)
	textClass := ""
	if strings.HasPrefix(class, "bad") {
		textClass = ` class="bad"`
	}
	fmt.Fprintf(b, `<text%s x="%d" y="%d">%s</text></g>`+"\n", textClass, svgToolstack+14, y-4, escape(oneLine(label, most)))
}

// whole is the request and the answer, for a tooltip.
func (c Call) whole() string {
	s := fmt.Sprintf("%s, %s\nrequest: %s\nanswer: %s", c.Call, c.Plugin,
		clip(string(c.Request)+c.RequestText), clip(string(c.Answer)+c.AnswerText))
	if c.Stderr != "" {
		s += "\nstandard error: " + clip(c.Stderr)
	}
	return s
}

func clip(s string) string {
	if len(s) > 2000 {
		return s[:2000] + "…"
	}
	return s
}

// escape is text for XML; what XML cannot say becomes U+FFFD.
func escape(s string) string {
	var b strings.Builder
	xml.EscapeText(&b, []byte(strings.ToValidUTF8(s, "\ufffd")))
	return b.String()
}
