package guestlist

import (
	"cmp"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"unicode/utf8"

	"vmcsnote/guest"
	"vmcsnote/internal/visible"
)

// listHead names the columns of the list. Every host has the same ones.
var listHead = [...]string{"guest", "name", "pid", "vcpu", "tid", "cpu", "state", "mode", "task", "rip", "last exit"}

const (
	nameColumn = 1
	// shortName is how much of a long name stays, whatever a terminal's width.
	shortName = 8
	// longName is how much of a name stays in any case: libvirt's are names of
	// files. A forged one of 128 KiB would be in memory for each vCPU.
	longName = 255
)

// printList prints a line for each vCPU, and for each machine without one. If
// width is not 0, long names are cut so that lines have at most width columns,
// if that is possible.
func (h *Host) printList(w io.Writer, width int) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, strings.Join(listHead[:], "\t"))
	most := h.nameWidth(width)
	for row := range h.rows {
		row[nameColumn] = shorten(row[nameColumn], most)
		fmt.Fprintln(t, strings.Join(row[:], "\t"))
	}
	t.Flush()
}

// rows yields the lines of the list.
func (h *Host) rows(yield func(row [len(listHead)]string) bool) {
	for m := range h.All() {
		machine := [len(listHead)]string{m.ID(), orDash(shorten(visible.Text(m.Name, ""), longName)), CountText(m.PID), "-", "-", "-", "-", "-", "-", "-", "-"}
		if len(m.VCPUs) == 0 && !yield(machine) {
			return
		}
		for _, v := range m.VCPUs {
			row := machine
			row[3], row[4], row[5] = strconv.Itoa(v.Number), CountText(v.TID), hostCPUText(v)
			a := h.activity(m, v)
			row[6], row[7], row[8], row[9], row[10] = orDash(v.State), modeText(v), taskText(a), placeText(a, v), exitText(v)
			if !yield(row) {
				return
			}
		}
	}
}

// nameWidth returns how long a name may be for the list to fit into width
// columns; 0 means any length.
func (h *Host) nameWidth(width int) int {
	if width == 0 {
		return 0
	}
	var widths [len(listHead)]int
	for i, head := range listHead {
		widths[i] = len(head)
	}
	for row := range h.rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	excess := 2*(len(listHead)-1) - width
	for _, n := range widths {
		excess += n
	}
	return max(widths[nameColumn]-max(excess, 0), min(shortName, widths[nameColumn]))
}

// shorten cuts text after at most characters, with an ellipsis; 0 means that
// nothing is cut.
func shorten(text string, most int) string {
	if most == 0 || utf8.RuneCountInString(text) <= most {
		return text
	}
	return string([]rune(text)[:most-1]) + "…"
}

func orDash(s string) string { return cmp.Or(s, "-") }

// CountText prints a number, or a dash for 0, which means unknown.
func CountText(n int) string {
	if n == 0 {
		return "-"
	}
	return strconv.Itoa(n)
}

// hostCPUText prints the host CPU that a vCPU ran on, or a dash.
func hostCPUText(v *guest.VCPU) string {
	if v.HostCPU < 0 {
		return "-"
	}
	return strconv.Itoa(v.HostCPU)
}
