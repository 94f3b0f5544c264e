package report

import (
	"encoding/xml"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"vmcsnote/internal/testcores"
)

// sample returns a page that has everything, with text in each of its values.
func sample(machines int, text func(string) string) *Page {
	fact := func(name, value string) Fact { return Fact{text(name), text(value)} }
	log := Log{Missing: text("Some of it could not be read."), Lines: []Line{{2, text("[    1.000000] Kernel panic - not syncing: x\n  more")}, {4, text("a warning")}, {6, text("information")}}}
	p := &Page{
		Title: text("vmcore"), Subtitle: text("vmcore, elf64"), Alert: text("Kernel panic: sysrq triggered crash"), Remarks: []string{text("warning: one thing")},
		Host: []Fact{fact("Kernel", "6.1.0"), fact("Empty", "")}, NoMachines: text("KVM's list is empty"), Log: log,
		Notes: []Note{{text("VMCOREINFO"), text("3000 bytes"), text("the kernel's symbols")}}, Verified: text("not ok"),
		Findings: []Finding{{true, text("a fault"), text("crash")}, {false, text("a remark"), text("gdb")}}, Program: text("vmcsnote 0"),
	}
	for i := range machines {
		m := Machine{
			ID: text(fmt.Sprint(i)), Name: text("web"), System: text("Linux 6.1.0"), Doing: text("2 vCPUs: idle"), Facts: []Fact{fact("UUID", "0000")},
			Slots: []Region{{0, 0xa0000, false}, {0xc0000, 0x10000, true}, {0x100000, 512 << 20, false}},
			Uses:  []Use{{Mapped, 300 << 20, text("300 MiB mapped")}, {Process, 4096, text("4 KiB")}, {Swapped, 1 << 20, text("1 MiB")}, {Untouched, 200 << 20, text("200 MiB")}},
			Log:   log,
			VCPUs: slices.Values([]VCPU{{Name: text("vCPU 0"), Doing: text("halted · swapper/0 (0)"), Facts: []Fact{fact("Mode", "long")},
				Registers: []Fact{fact("RAX", "0x1")}, Segments: []Fact{fact("CS", "0x10 base 0x0")}, Backtrace: []string{text("default_idle+0xb"), text("? schedule+0x1")}}}),
		}
		if i == 1 {
			m.Alert, m.NoMemory, m.Slots, m.Uses = text("Kernel panic: Attempted to kill init!"), text("Memory: encrypted."), nil, nil
		}
		p.Machines = append(p.Machines, m)
	}
	return p
}

func write(t *testing.T, p *Page) string {
	t.Helper()
	var b strings.Builder
	if err := Write(&b, p); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func as(s string) string { return s }

func TestGolden(t *testing.T) {
	got := write(t, sample(2, as))
	path := filepath.Join("testdata", "page.html")
	if testcores.Update() {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil || got != string(want) {
		t.Errorf("%v: got\n%s", err, got)
	}
}

// An element is one of a page, with its attributes' names.
type element struct{ name, attrs string }

// parse returns the elements and the text of a page. It fails unless they are
// nested well and all are closed, and on anything but elements and text.
func parse(t *testing.T, page string) (all []element, text string) {
	t.Helper()
	body, ok := strings.CutPrefix(page, "<!DOCTYPE html>\n")
	if !ok {
		t.Fatal("no doctype")
	}
	d := xml.NewDecoder(strings.NewReader(body))
	for {
		token, err := d.Token()
		if err == io.EOF {
			return all, text
		}
		switch token := token.(type) {
		case xml.StartElement:
			e := element{name: token.Name.Local}
			for _, a := range token.Attr {
				e.attrs += " " + a.Name.Local
				if a.Name.Local == "href" && !strings.HasPrefix(a.Value, "#m") && !slices.Contains([]string{"#host", "#log", "#notes"}, a.Value) {
					t.Errorf("a link to %q", a.Value)
				}
			}
			all = append(all, e)
		case xml.CharData:
			text += string(token)
		case xml.EndElement:
		default:
			t.Fatalf("%T, %v", token, err)
		}
	}
}

// Whatever the values are, the page has the elements that it has without them.
func TestHostileValues(t *testing.T) {
	want, _ := parse(t, write(t, sample(2, as)))
	for _, evil := range []string{
		"<script>alert(1)</script>", `"><img src=x onerror=alert(1)>`, "' onmouseover='x", "</pre></details></style>", "&lt;b&gt;", "]]>", "<!--",
		"\x1b[2J\x00\x9b", "\u202eexe.gnp", "\xff\xfe<", "javascript:alert(1)", "{{.}}",
	} {
		page := write(t, sample(2, func(s string) string {
			if s == "" {
				return s
			}
			return evil + s + evil
		}))
		got, text := parse(t, page)
		if !slices.Equal(got, want) {
			t.Errorf("%q: the page has other elements: %v", evil, got)
		}
		for _, r := range page {
			if r < ' ' && r != '\n' || r >= 0x7f && r < 0xa0 || r == '\u202e' || r == '\ufffd' {
				t.Errorf("%q: %q is in the page", evil, r)
			}
		}
		if strings.HasPrefix(evil, "<") && !strings.Contains(text, evil) {
			t.Errorf("%q is not shown as it is", evil)
		}
	}
}

// No machine, one, and many.
func TestMachines(t *testing.T) {
	for _, n := range []int{0, 1, 2, 200} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			page := write(t, sample(n, as))
			all, text := parse(t, page)
			cards, rows := 0, 0
			for _, e := range all {
				switch e.name {
				case "article":
					cards++
				case "script", "link", "img", "iframe", "form":
					t.Errorf("an element %s", e.name)
				}
			}
			rows = strings.Count(page, `<a href="#m`) - 1 // the first is to all machines
			want := n
			if n < 2 {
				want = 0
			}
			if cards != n || rows != want {
				t.Errorf("%d cards and %d links to them", cards, rows)
			}
			if n == 0 && !strings.Contains(text, "KVM's list is empty") {
				t.Error("it does not tell why there are none")
			}
		})
	}
}

// What is drawn stays within the picture, whatever the slots are.
func TestPicture(t *testing.T) {
	many := Machine{VCPUs: slices.Values[[]VCPU](nil)}
	for i := range uint64(100) {
		many.Slots = append(many.Slots, Region{Start: i << 40, Size: 1 << (i % 40), ReadOnly: i%2 == 1})
	}
	page := write(t, &Page{Machines: []Machine{many}})
	rects := 0
	for rest := page; ; rects++ {
		var x, width float64
		_, after, ok := strings.Cut(rest, "<rect class=")
		if !ok {
			break
		}
		_, place, _ := strings.Cut(after, " ")
		if _, err := fmt.Sscanf(place, `x="%f" width="%f"`, &x, &width); err != nil || x < 0 || width <= 0 || x+width > pictureWidth+0.5 {
			t.Fatalf("%v: x %v, width %v", err, x, width)
		}
		rest = after
	}
	if rects != 2*maxDrawn-1 {
		t.Errorf("%d areas and gaps", rects)
	}
	if !strings.Contains(page, "36 more not drawn") {
		t.Error("it does not tell what is missing")
	}
}

// The style sheet has what dark mode and printing need, and asks for nothing.
func TestStyleSheet(t *testing.T) {
	for _, part := range []string{"prefers-color-scheme: dark", "@media print"} {
		if !strings.Contains(css, part) {
			t.Errorf("no %s", part)
		}
	}
	for _, part := range []string{"url(", "@import", "http"} {
		if strings.Contains(css, part) {
			t.Errorf("it has %s", part)
		}
	}
}
