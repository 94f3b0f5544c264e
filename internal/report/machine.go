package report

import (
	"cmp"
	"fmt"

	"vmcsnote/internal/html"
)

func (w page) machines(p *Page) {
	heading, panicked := count(len(p.Machines), "virtual machine"), 0
	for i := range p.Machines {
		if p.Machines[i].Alert != "" {
			panicked++
		}
	}
	if panicked > 0 {
		heading += fmt.Sprintf(", %d panicked", panicked)
	}
	w.Element("h2", heading, html.A("id", "machines"))
	if len(p.Machines) == 0 {
		w.Element("p", p.NoMachines, html.A("class", "box soft"))
		return
	}
	if len(p.Machines) > 1 {
		w.Block("div", func() { w.overview(p.Machines) }, html.A("class", "box"))
	}
	class := "cards"
	if len(p.Machines) <= maxUnfolded {
		class = "cards few"
	}
	w.Block("div", func() {
		for i := range p.Machines {
			w.Block("article", func() { w.machine(&p.Machines[i]) }, html.A("class", "box card"), html.A("id", anchor(i)))
		}
	}, html.A("class", class))
}

// maxUnfolded is up to how many machines a printed page shows everything. With
// more it shows what the reader has unfolded: each vCPU fills half a sheet.
const maxUnfolded = 12

// overview lists the machines, with links to their cards.
func (w page) overview(all []Machine) {
	w.table([]string{"Machine", "Name", "System", "What it was doing"}, len(all), func(i int) {
		m := &all[i]
		w.Element("td", m.ID)
		w.Block("td", func() { w.Element("a", m.Name, html.Link(anchor(i))) })
		w.Element("td", cmp.Or(m.System, "unknown"))
		w.Element("td", cmp.Or(m.Alert, m.Doing))
	}, func(i int) bool { return all[i].Alert != "" })
}

// machine writes what is in a machine's card.
func (w page) machine(m *Machine) {
	w.Block("header", func() {
		w.Element("h3", m.Name)
		w.Element("span", "machine "+m.ID, html.A("class", "number"))
	})
	if m.Doing != "" {
		w.Element("p", m.Doing, html.A("class", "soft"))
	}
	w.alert(m.Alert)
	w.facts(m.Facts)
	w.memory(m)
	for v := range m.VCPUs {
		w.Block("details", func() { w.vcpu(&v) })
	}
	if len(m.Log.Lines) > 0 {
		var attrs []html.Attr
		if m.Alert != "" {
			attrs = append(attrs, html.A("open", ""))
		}
		w.Block("details", func() {
			w.Element("summary", "Last lines of its log")
			w.log(m.Log)
		}, attrs...)
	}
}

// vcpu writes a vCPU: a summary, and the details that it unfolds.
func (w page) vcpu(v *VCPU) {
	w.Block("summary", func() {
		w.Element("b", v.Name)
		w.Element("span", v.Doing, html.A("class", "soft"))
	})
	w.facts(v.Facts)
	if len(v.Backtrace) > 0 {
		w.Block("ol", func() {
			for _, frame := range v.Backtrace {
				w.Element("li", frame)
			}
		})
	}
	w.Block("div", func() {
		for _, r := range v.Registers {
			w.register(r)
		}
		for _, r := range v.Segments {
			w.register(r, html.A("class", "wide"))
		}
	}, html.A("class", "registers"))
}

func (w page) register(r Fact, attrs ...html.Attr) {
	w.Block("div", func() {
		w.Element("span", r.Name, html.A("class", "soft"))
		w.Element("span", r.Value)
	}, attrs...)
}
