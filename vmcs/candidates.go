package vmcs

import (
	"slices"

	"vmcsnote/physmem"
)

// settleRights lets the good pages tell how access rights are stored.
func (p *plan) settleRights(r physmem.Reader) {
	var votes ballot
	page := make([]byte, PageSize)
	addrs := p.good.addrs()
	for _, addr := range addrs[:min(len(addrs), maxVoters)] {
		if n, _ := r.ReadPhys(page, addr); n == len(page) {
			votes.vote(p.layout, page)
		}
	}
	p.layout.SetAccessRights(votes.winner(p.layout.AccessRights))
}

// shadows adds the shadow VMCSs at the addresses, which VMCSs found link to.
// They hold a few fields only, and do not pass for VMCSs by themselves.
func (f *finder) shadows(res *Result, l *Layout, addrs []uint64) {
	for _, addr := range addrs {
		v := VMCS{addr, make([]byte, PageSize), l}
		known := slices.ContainsFunc(res.Others, func(c *Candidate) bool { return c.Addr == addr })
		if n, _ := f.r.ReadPhys(v.Page, addr); n == len(v.Page) && v.Shadow() && !known {
			res.Others = append(res.Others, &Candidate{VMCS: v, Verdict: Shadow})
		}
	}
}

// explain adds the rejected pages, weighed by the layout taken or, if that has
// another revision identifier, by the first with theirs.
func (f *finder) explain(res *Result, taken *plan) {
	for _, addr := range f.rejected.addrs() {
		v := VMCS{Addr: addr, Page: make([]byte, PageSize)}
		if n, _ := f.r.ReadPhys(v.Page, addr); n < len(v.Page) {
			continue
		}
		plans := f.byID[v.RevisionID()]
		if len(plans) == 0 || slices.Contains(plans, taken) {
			plans = []*plan{taken}
		}
		if plans[0] == nil {
			plans = f.plans[:1]
		}
		v.Layout = plans[0].layout
		j := judge{VMCS: &v, keep: true, verdict: Live}
		j.page()
		res.Others = append(res.Others, &Candidate{VMCS: v, Verdict: j.settle(), Score: j.won - j.lost, Checks: j.checks})
	}
}
