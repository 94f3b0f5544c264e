package report

import (
	"fmt"
	"strconv"

	"vmcsnote/internal/html"
)

const (
	// pictureWidth is the width of a picture in its own units.
	pictureWidth = 1000
	// minWidth keeps small regions visible. gapWidth is the width of a gap in the
	// addresses, however large that is.
	minWidth = 8
	gapWidth = 6
	// maxDrawn bounds the regions of a picture.
	maxDrawn = 64
)

// kinds are the classes of the style sheet for a kind of memory.
var kinds = [...]string{Mapped: "ram", Process: "more", Swapped: "swap", Untouched: "none"}

// memory draws a machine's memory: its slots by address, and where it was.
func (w page) memory(m *Machine) {
	if m.NoMemory != "" {
		w.Element("p", m.NoMemory, html.A("class", "soft"))
	}
	w.slots(m.Slots)
	var bars []bar
	for _, u := range m.Uses {
		bars = append(bars, bar{class: kinds[u.Kind], size: u.Bytes, text: u.Text})
	}
	if w.picture("where its memory was", bars) {
		w.key(bars)
	}
}

// slots draws memory by address. Gaps have a width of their own.
func (w page) slots(slots []Region) {
	if len(slots) == 0 {
		return
	}
	var bars []bar
	readOnly := false
	var end uint64
	for _, s := range slots[:min(len(slots), maxDrawn)] {
		if s.Start > end {
			bars = append(bars, bar{class: "gap"})
		}
		b := bar{class: "ram", size: s.Size, text: fmt.Sprintf("%#x to %#x", s.Start, s.Start+s.Size-1)}
		if s.ReadOnly {
			b.class, readOnly = "rom", true
			b.text += ", read-only"
		}
		bars = append(bars, b)
		end = s.Start + s.Size
	}
	if !w.picture("its memory by address", bars) {
		return
	}
	last := slots[len(slots)-1]
	legend := []bar{{class: "ram", text: fmt.Sprintf("memory, up to %#x", last.Start+last.Size-1)}}
	if readOnly {
		legend = append(legend, bar{class: "rom", text: "read-only"})
	}
	if n := len(slots) - maxDrawn; n > 0 {
		legend = append(legend, bar{class: "none", text: fmt.Sprintf("%d more not drawn", n)})
	}
	w.key(legend)
}

// A bar is a part of a picture. One without size is a gap.
type bar struct {
	class, text string
	size        uint64
}

// picture draws bars side by side, as wide as they are big. It reports whether
// there was anything to draw.
func (w page) picture(title string, bars []bar) bool {
	total, room := 0.0, float64(pictureWidth)
	for _, b := range bars {
		total += float64(b.size)
		if b.size == 0 {
			room -= gapWidth
		} else {
			room -= minWidth
		}
	}
	if total == 0 {
		return false
	}
	w.Block("svg", func() {
		w.Element("title", title)
		x := 0.0
		for _, b := range bars {
			width := float64(gapWidth)
			if b.size != 0 {
				width = minWidth + room*float64(b.size)/total
			}
			w.Block("rect", func() { w.Element("title", b.text) }, html.A("class", b.class), html.A("x", number(x)),
				html.A("width", number(width)), html.A("height", "18"))
			x += width
		}
	}, html.A("class", "picture"), html.A("role", "img"), html.A("viewBox", "0 0 "+strconv.Itoa(pictureWidth)+" 18"),
		html.A("preserveAspectRatio", "none"))
	return true
}

// key explains the colours of a picture.
func (w page) key(bars []bar) {
	w.Block("div", func() {
		for _, b := range bars {
			if b.text == "" || b.class == "gap" {
				continue
			}
			w.Block("span", func() {
				w.Element("span", "", html.A("class", "swatch "+b.class))
				w.Text(b.text)
			})
		}
	}, html.A("class", "key"))
}

func number(x float64) string { return strconv.FormatFloat(x, 'f', 1, 64) }
