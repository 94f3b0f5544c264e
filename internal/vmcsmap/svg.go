package vmcsmap

import (
	"fmt"
	"strings"

	"vmcsnote/internal/visible"
	"vmcsnote/vmcs"
)

// The picture has a row for every 16 bytes of the page that hold a field, in
// pixels:
const (
	svgBytes  = 16
	svgByte   = 74
	svgRow    = 22
	svgLeft   = 60
	svgTop    = 80
	svgRight  = svgLeft + svgBytes*svgByte
	svgLetter = 7 // the approximate width of a letter
)

// svgHead begins every picture. Groups differ in their frames as well, for
// readers who cannot tell the colours apart.
const svgHead = `<svg xmlns="http://www.w3.org/2000/svg" width="%[1]d" height="%[2]d" viewBox="0 0 %[1]d %[2]d" font-family="monospace" font-size="11">
<style>
rect { stroke: #444 }
.guest { fill: #cfe3ff }
.host { fill: #d5f2d0; stroke-dasharray: 6 2 }
.control { fill: #fff0c2; stroke-dasharray: 2 2 }
.exit-info { fill: #f7d3d3; stroke-width: 2 }
.unknown { fill: #e6e6e6; stroke-dasharray: 8 3 2 3 }
.header { fill: #fff }
.gap { fill: #777 }
</style>
<rect x="0" y="0" width="100%%" height="100%%" fill="#fff" stroke="none"/>
<text x="10" y="20" font-size="14">%[3]s</text>
`

// A picture is a layout drawn as SVG.
type picture struct {
	strings.Builder
	y  int
	at int // what the row at y begins with, in bytes
}

// SVG draws the layout as a picture.
func SVG(l *vmcs.Layout, title string) string {
	var p picture
	for i, g := range [...]string{"guest", "host", "control", "exit-info", "unknown"} {
		p.box(svgLeft+i*130, 36, 120, g, g, g)
	}
	for i := range svgBytes {
		fmt.Fprintf(&p, "<text x=\"%d\" y=\"%d\">%x</text>\n", svgLeft+i*svgByte+4, svgTop-6, i)
	}
	p.y, p.at = svgTop-svgRow, -svgBytes
	p.field(0, 4, "header", "revision id", "")
	p.field(4, 4, "header", "abort indicator", "")
	highs := highHalves(l)
	for _, i := range drawnApart(l, highs) {
		e := l.Entries[i]
		encoding := ""
		if e.Known {
			encoding = ", encoding " + e.Encoding.String()
		}
		if high, ok := highs[i]; ok {
			encoding += fmt.Sprintf("; %s at %#x", l.Entries[high].Name, l.Entries[high].Offset)
		}
		p.field(e.Offset, e.Width, group(e), e.Name, encoding)
	}
	return fmt.Sprintf(svgHead, svgRight+20, p.y+2*svgRow, xmlText(title)) + p.String() + "</svg>\n"
}

// field draws a field in its row or rows. It must be called in order of offset.
func (p *picture) field(offset, width int, group, name, encoding string) {
	about := fmt.Sprintf("%s at %#x, %s%s", name, offset, bytesText(width), encoding)
	for end := offset + max(width, 1); offset < end; {
		row := offset &^ (svgBytes - 1)
		if row > p.at {
			if p.y += svgRow; row > p.at+svgBytes {
				fmt.Fprintf(p, "<text x=\"10\" y=\"%d\" class=\"gap\">…</text>\n", p.y+15)
				p.y += svgRow
			}
			p.at = row
			fmt.Fprintf(p, "<text x=\"10\" y=\"%d\">%#04x</text>\n", p.y+15, row)
		}
		n := min(end, row+svgBytes) - offset
		y := p.y - (p.at-row)/svgBytes*svgRow // one row up where another field reaches further
		p.box(svgLeft+(offset-row)*svgByte, y, n*svgByte, group, name, about)
		offset += n
	}
}

func bytesText(n int) string {
	if n == 1 {
		return "1 byte"
	}
	return fmt.Sprintf("%d bytes", n)
}

// box draws a frame with as much of a label as fits; about is shown where a
// mouse points.
func (p *picture) box(x, y, width int, group, label, about string) {
	if room := (width - 6) / svgLetter; len(label) > room {
		label = label[:max(room-1, 0)] + "~"
	}
	fmt.Fprintf(p, "<g><title>%s</title><rect class=\"%s\" x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\"/><text x=\"%d\" y=\"%d\">%s</text></g>\n",
		xmlText(about), group, x, y, width, svgRow, x+4, y+15, xmlText(label))
}

// xmlText escapes text out of a dump for an element.
func xmlText(s string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(visible.Name(s))
}
