package cli

import (
	"vmcsnote/guest"
	"vmcsnote/vmcs"
)

// report makes the document of --json.
func report(path string, h *host) guestsReport {
	r := guestsReport{File: path, Layout: reportLayout(h.found, h.layoutText()), Guests: []machineReport{}, Others: []vcpuReport{}, Search: reportSearch(h.found)}
	for _, m := range h.machines {
		r.Guests = append(r.Guests, reportMachine(h, m))
	}
	for _, c := range h.found.Others {
		r.Others = append(r.Others, reportVCPU(&vcpu{Candidate: c}))
	}
	return r
}

func reportSearch(found *vmcs.Result) searchReport {
	r := searchReport{Pages: found.Pages, Matched: found.Matched, Lost: found.Lost, Dropped: found.Dropped}
	if found.ReadError != nil {
		r.Error = found.ReadError.Error()
	}
	for _, s := range found.Strangers {
		r.Strangers = append(r.Strangers, strangerReport{hex(uint64(s.RevisionID)), s.Pages})
	}
	return r
}

func reportLayout(found *vmcs.Result, from string) usedLayout {
	u := usedLayout{From: from}
	for _, t := range found.Trials {
		u.Trials = append(u.Trials, trialReport{t.Layout.Name, hex(uint64(t.Layout.RevisionID)), t.Matched, t.Live, t.Stale, t.Score})
	}
	l := found.Layout
	if l == nil {
		return u
	}
	u.Name, u.Form, u.RevisionID, u.AccessRights = l.Name, l.Form.String(), hex(uint64(l.RevisionID)), l.AccessRights.String()
	u.Warnings = append(append(u.Warnings, l.Warnings...), l.Caveats...)
	u.Ambiguous = ambiguous(found)
	return u
}

func reportMachine(h *host, m *machine) machineReport {
	r := machineReport{ID: m.number, Guest: m.id(), Process: hex(m.Process), Hypervisor: m.Hypervisor(), VCPUs: []vcpuReport{}}
	if m.EPTP != 0 {
		r.EPTP = hex(m.EPTP)
	}
	if mem, err := m.open(h); err != nil {
		r.MemoryError = err.Error()
	} else {
		for _, s := range mem.Slots() {
			r.Slots = append(r.Slots, slotReport{hex(s.GPA), hex(s.HVA), s.Size, s.Pages})
		}
		t := tallyReport(mem.Tally())
		r.Memory = &t
	}
	for _, v := range m.vcpus {
		r.VCPUs = append(r.VCPUs, reportVCPU(v))
	}
	if len(m.nested) > 0 {
		u := reportLayout(m.found, usedText(m.found.Layout))
		r.NestedBy = &u
	}
	for _, n := range m.nested {
		r.Nested = append(r.Nested, reportMachine(h, n))
	}
	return r
}

func reportVCPU(v *vcpu) vcpuReport {
	r := vcpuReport{ID: v.number, VMCS: hex(v.Addr), Verdict: v.Verdict.String(), Stale: v.Verdict == vmcs.Stale, Score: v.Score,
		Mode: v.Mode().String(), Emulated: v.ModeEmulated(), Abort: v.Abort(), ExitReason: v.exit(),
		Fields: make(map[string]string), Bits: make(map[string][]string), Texts: make(map[string]string)}
	r.VPID, _ = v.VPID()
	for _, e := range v.Layout.Entries {
		x, ok := v.Value(e)
		if !ok {
			continue
		}
		r.Fields[e.Name] = hex(x)
		if bits, ok := vmcs.FieldBits(e.Encoding, x); ok && e.Known {
			r.Bits[e.Name] = bits
		} else if text := fieldText(e, x); text != "" {
			r.Texts[e.Name] = text
		}
	}
	for _, s := range v.Segments() {
		r.Segments = append(r.Segments, segmentReport{s.Name, hex(uint64(s.Selector)), hex(s.Base), hex(uint64(s.Limit)), hex(uint64(s.Rights)), vmcs.RightsText(s.Rights)})
	}
	for _, c := range v.Checks {
		r.Checks = append(r.Checks, checkReport{c.Name, hex(c.Value), c.Want, c.Answer.String(), c.Weight})
	}
	if v.regs != nil {
		r.Registers, r.Evidence = reportRegisters(v.regs)
	}
	return r
}

func reportRegisters(regs *guest.Registers) (map[string]registerReport, *evidenceReport) {
	all := make(map[string]registerReport)
	for _, reg := range registers(regs) {
		r := registerReport{From: reg.Origin.String()}
		if reg.Known() {
			r.Value = hex(reg.Value)
		}
		all[reg.name] = r
	}
	ev := regs.Evidence
	return all, &evidenceReport{ev.Held.String(), hex(ev.Array), ev.Pointers, ev.Words}
}
