// Package report writes a page about a crashed host and its guests, which a
// browser shows without the network and without a script. Any value may be an
// attacker's: package html makes them harmless.
package report

import (
	_ "embed"
	"fmt"
	"io"
	"iter"
	"strconv"

	"vmcsnote/internal/html"
)

//go:embed report.css
var css string

// A Page holds the contents of the page.
type Page struct {
	Title, Subtitle string
	Alert           string   // why the host crashed, "" if that is unknown
	Remarks         []string // what is missing or doubtful
	Host            []Fact
	Machines        []Machine
	NoMachines      string // why there are none
	Log             Log
	Notes           []Note
	Verified        string // the outcome of all checks in a few words
	Findings        []Finding
	Program         string // which wrote the page
}

// A Fact is a line of a table: what, and its value.
type Fact struct{ Name, Value string }

// A Log is the end of a kernel's log.
type Log struct {
	Lines   []Line
	Missing string // why there is none, or why it is not whole
}

// A Line is a record of a log, with its level: 0 (emergency) to 7 (debug).
type Line struct {
	Level int
	Text  string
}

// A Machine is a virtual machine.
type Machine struct {
	ID, Name string
	System   string // what runs in it: Linux 6.1.0
	Doing    string // what it was doing, in a few words
	Alert    string // why its kernel panicked, "" if it did not
	Facts    []Fact
	Slots    []Region // by rising address
	Uses     []Use    // where its memory was
	NoMemory string   // why nothing is known of its memory
	VCPUs    iter.Seq[VCPU]
	Log      Log
}

// A Region is a stretch of a machine's memory.
type Region struct {
	Start, Size uint64
	ReadOnly    bool
}

// A Use is how many bytes of a machine's memory were somewhere.
type Use struct {
	Kind  Kind
	Bytes uint64
	Text  string // for people, with the number
}

// A Kind is where memory was.
type Kind uint8

// The kinds of uses.
const (
	Mapped  Kind = iota // in the machine's page tables
	Process             // in those of the process that runs it alone
	Swapped
	Untouched
)

// A VCPU is a processor of a machine.
type VCPU struct {
	Name      string
	Doing     string // where it was: task, symbol
	Facts     []Fact
	Registers []Fact
	Segments  []Fact
	Backtrace []string
}

// A Note is a note of the dump.
type Note struct{ Name, Size, What string }

// A Finding is something that a check has found in the dump.
type Finding struct {
	Fault         bool
	Text, Readers string
}

// Write writes the page.
func Write(out io.Writer, p *Page) error {
	w := page{html.New(out, p.Title, css)}
	w.Block("header", func() { w.top(p) })
	w.Block("main", func() {
		w.Element("h2", "Host", html.A("id", "host"))
		w.Block("div", func() { w.facts(p.Host) }, html.A("class", "box"))
		w.machines(p)
		w.Element("h2", "Last lines of the host's log", html.A("id", "log"))
		w.Block("div", func() { w.log(p.Log) }, html.A("class", "box"))
		w.notes(p)
	})
	w.Element("footer", "Written by "+p.Program)
	return w.End()
}

type page struct{ *html.Writer }

func (w page) top(p *Page) {
	w.Element("h1", p.Title)
	w.Element("p", p.Subtitle, html.A("class", "soft"))
	w.Block("nav", func() {
		for _, part := range []struct{ id, name string }{{"host", "Host"}, {"machines", "Machines"}, {"log", "Log"}, {"notes", "Notes and checks"}} {
			w.Element("a", part.name, html.Link(part.id))
		}
	})
	w.alert(p.Alert)
	for _, text := range p.Remarks {
		w.Element("p", text, html.A("class", "remark"))
	}
}

func (w page) alert(text string) {
	if text != "" {
		w.Element("p", text, html.A("class", "alert"))
	}
}

func (w page) facts(facts []Fact) {
	w.Block("dl", func() {
		for _, f := range facts {
			if f.Value != "" {
				w.Element("dt", f.Name)
				w.Element("dd", f.Value)
			}
		}
	})
}

func (w page) log(l Log) {
	if l.Missing != "" {
		w.Element("p", l.Missing, html.A("class", "soft"))
	}
	if len(l.Lines) == 0 {
		return
	}
	w.Block("pre", func() {
		for _, line := range l.Lines {
			switch {
			case line.Level <= 3:
				w.Element("span", line.Text, html.A("class", "bad"))
			case line.Level == 4:
				w.Element("span", line.Text, html.A("class", "warn"))
			default:
				w.Text(line.Text)
			}
			w.Text("\n")
		}
	})
}

func (w page) notes(p *Page) {
	w.Element("h2", "Notes and checks", html.A("id", "notes"))
	w.Block("div", func() {
		w.table([]string{"Note", "Size", "What it is"}, len(p.Notes), func(i int) {
			w.Element("td", p.Notes[i].Name)
			w.Element("td", p.Notes[i].Size)
			w.Element("td", p.Notes[i].What)
		}, nil)
		w.Element("p", "vmcsnote verify: "+p.Verified)
		w.table([]string{"Finding", "Readers"}, len(p.Findings), func(i int) {
			w.Element("td", p.Findings[i].Text)
			w.Element("td", p.Findings[i].Readers)
		}, func(i int) bool { return p.Findings[i].Fault })
	}, html.A("class", "box"))
}

// table writes a table of n rows, if there are any. bad marks rows.
func (w page) table(heads []string, n int, cells func(i int), bad func(i int) bool) {
	if n == 0 {
		return
	}
	w.Block("div", func() {
		w.Block("table", func() {
			w.Block("tr", func() {
				for _, head := range heads {
					w.Element("th", head)
				}
			})
			for i := range n {
				var attrs []html.Attr
				if bad != nil && bad(i) {
					attrs = append(attrs, html.A("class", "bad"))
				}
				w.Block("tr", func() { cells(i) }, attrs...)
			}
		})
	}, html.A("class", "scroll"))
}

// count returns "1 vCPU" or "2 vCPUs".
func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// anchor is the id of a machine's card.
func anchor(i int) string { return "m" + strconv.Itoa(i) }
