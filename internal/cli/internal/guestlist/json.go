package guestlist

import (
	"io"

	"vmcsnote/guest"
	"vmcsnote/internal/cli/internal/message"
	"vmcsnote/internal/jsonstream"
	"vmcsnote/vmcs"
)

// WriteJSON prints the document of --json, one vCPU at a time: there may be
// thousands, with some 25 KB each. shortfall is what the dump lacks, if
// anything.
func (h *Host) WriteJSON(w io.Writer, paths []string, shortfall any) error {
	s := jsonstream.New(w)
	s.Object(func() {
		s.Field("file", paths[0])
		if len(paths) > 1 {
			s.Field("files", paths)
		}
		if h.Shortfall.Partial() || h.Shortfall.Split {
			s.Field("shortfall", shortfall)
		}
		if h.NoKVM != nil {
			s.Field("kvm_error", h.NoKVM.Error())
		} else if h.KVMError != nil {
			s.Field("kvm_error", h.KVMError.Error())
		}
		if h.SavedError != nil {
			s.Field("saved_error", h.SavedError.Error())
		}
		if h.Live {
			s.Field("live", true)
		}
		layout := h.reportLayout(h.Found, h.FoundText())
		layout.Warnings = append(layout.Warnings, h.doubts()...)
		s.Field("layout", layout)
		s.List("guests", func() {
			for _, m := range h.Machines {
				reportMachine(s, h, m)
			}
		})
		// Pages that are no VMCS of a running virtual CPU.
		s.List("others", func() {
			for _, c := range h.Found.Others {
				s.Item(reportVCPU(&guest.VCPU{Candidate: c, VMCSAddr: c.Addr, HostCPU: -1}))
			}
		})
		s.Field("search", reportSearch(h.Found))
		if len(h.Disagreements) > 0 {
			s.List("disagreements", func() {
				for _, d := range h.Disagreements {
					s.Item(reportDisagreement(d))
				}
			})
		}
	})
	return s.End()
}

// reportMachine prints a machine, and those that run in it.
func reportMachine(s *jsonstream.Stream, h *Host, m *guest.Machine) {
	defer m.Forget() // there may be a thousand
	s.Object(func() {
		s.Field("id", m.Number)
		s.Field("guest", m.ID())
		eptp := ""
		if m.EPTP != 0 {
			eptp = message.Hex(m.EPTP)
		}
		s.Field("eptp", eptp)
		if m.NCR3() != 0 {
			s.Field("ncr3", message.Hex(m.NCR3()))
		}
		s.Field("found_by", m.FoundBy.String())
		reportProcess(s, m)
		h.reportSystem(s.Field, m)
		s.Field("process", message.Hex(m.Process))
		s.Field("hypervisor", m.Hypervisor())
		if e := m.Encryption(); e != guest.NotEncrypted {
			s.Field("encryption", e.String())
		}
		if mem, err := m.Memory(); err != nil {
			s.Field("memory_error", err.Error())
		} else {
			s.List("slots", func() {
				for _, slot := range mem.Slots() {
					if m.Slots == nil {
						s.Item(slotReport{GPA: message.Hex(slot.GPA), HVA: message.Hex(slot.HVA), Size: slot.Size, Pages: slot.Pages})
					}
				}
				for _, slot := range m.Slots {
					s.Item(slotReport{message.Hex(slot.GPA), message.Hex(slot.HVA), slot.Size, 0, &kvmSlotReport{slot.ID, slot.Space, message.Hex(uint64(slot.Flags))}})
				}
			})
			s.Field("memory", tallyReport(mem.Tally()))
		}
		s.List("vcpus", func() {
			for _, v := range m.VCPUs {
				r := reportVCPU(v)
				r.activity(h.activity(m, v))
				s.Item(r)
			}
		})
		if len(m.Nested) == 0 {
			return
		}
		if m.Found != nil {
			s.Field("nested_layout", h.reportLayout(m.Found, usedText(m.Found.Layout)))
		}
		s.List("nested", func() {
			for _, n := range m.Nested {
				reportMachine(s, h, n)
			}
		})
	})
}

// reportProcess prints what KVM's structures tell of the machine's process.
func reportProcess(s *jsonstream.Stream, m *guest.Machine) {
	for _, f := range []struct{ name, value string }{{"name", m.Name}, {"uuid", m.UUID}, {"comm", m.Comm}, {"cgroup", m.Cgroup}} {
		if f.value != "" {
			s.Field(f.name, f.value)
		}
	}
	if m.PID != 0 {
		s.Field("pid", m.PID)
	}
	if m.Command != nil {
		s.Field("command", m.Command)
	}
}

func reportDisagreement(d guest.Disagreement) disagreementReport {
	r := disagreementReport{What: d.What, KVM: d.KVM, VMCS: d.VMCS}
	if d.Machine != nil {
		r.Guest = d.Machine.ID()
	}
	if d.VCPU != nil {
		r.VCPU = &d.VCPU.Number
	}
	return r
}

func reportSearch(found *vmcs.Result) searchReport {
	r := searchReport{Pages: found.Pages, Matched: found.Matched, Lost: found.Lost, Dropped: found.Dropped}
	if found.ReadError != nil {
		r.Error = found.ReadError.Error()
	}
	for _, s := range found.Strangers {
		r.Strangers = append(r.Strangers, strangerReport{message.Hex(uint64(s.RevisionID)), s.Pages})
	}
	return r
}

func (h *Host) reportLayout(found *vmcs.Result, from string) usedLayout {
	u := usedLayout{From: from}
	for _, t := range found.Trials {
		u.Trials = append(u.Trials, trialReport{t.Layout.Name, message.Hex(uint64(t.Layout.RevisionID)), t.Matched, t.Live, t.Stale, t.Score})
	}
	l := found.Layout
	if l == nil {
		return u
	}
	u.Name, u.Form, u.RevisionID, u.AccessRights = l.Name, l.Form.String(), message.Hex(uint64(l.RevisionID)), l.AccessRights.String()
	u.Warnings = append(append(u.Warnings, l.Warnings...), l.Caveats...)
	u.Ambiguous = h.ambiguous(found)
	return u
}

func reportVCPU(v *guest.VCPU) vcpuReport {
	r := vcpuReport{ID: v.Number, TID: v.TID, Thread: v.Thread, State: v.State, Mode: v.Mode().String(), Emulated: v.ModeEmulated(), ExitReason: exitText(v),
		Fields: make(map[string]string), Bits: make(map[string][]string), Texts: make(map[string]string)}
	if v.Regs != nil {
		r.Registers, r.Evidence = reportRegisters(v.Regs)
	}
	if v.HostCPU >= 0 {
		r.HostCPU = &v.HostCPU
	}
	if v.VMCSAddr != 0 {
		r.VMCS = message.Hex(v.VMCSAddr)
	}
	if v.VMCB != 0 {
		r.VMCB = message.Hex(v.VMCB)
	}
	if v.SVM != nil {
		r.reportVMCB(v)
	}
	if !v.HasVMCS() {
		return r
	}
	r.Verdict, r.Stale, r.Score, r.Abort = v.Verdict.String(), v.Verdict == vmcs.Stale, v.Score, v.Abort()
	r.VPID, _ = v.VPID()
	for _, e := range v.Layout.Entries {
		x, ok := v.Value(e)
		if !ok {
			continue
		}
		r.Fields[e.Name] = message.Hex(x)
		if bits, ok := vmcs.FieldBits(e.Encoding, x); ok && e.Known {
			r.Bits[e.Name] = bits
		} else if text := fieldText(v, e, x); text != "" {
			r.Texts[e.Name] = text
		}
	}
	for _, s := range v.Segments() {
		r.Segments = append(r.Segments, segmentReport{s.Name, message.Hex(uint64(s.Selector)), message.Hex(s.Base), message.Hex(uint64(s.Limit)), message.Hex(uint64(s.Rights)), vmcs.RightsText(s.Rights)})
	}
	for _, c := range v.Checks {
		r.Checks = append(r.Checks, checkReport{c.Name, message.Hex(c.Value), c.Want, c.Answer.String(), c.Weight})
	}
	return r
}

func reportRegisters(regs *guest.Registers) (map[string]registerReport, *evidenceReport) {
	all := make(map[string]registerReport)
	for _, reg := range registers(regs) {
		r := registerReport{From: reg.Origin.String()}
		if reg.Known() {
			r.Value = message.Hex(reg.Value)
		}
		all[reg.name] = r
	}
	ev := regs.Evidence
	return all, &evidenceReport{ev.Held.String(), message.Hex(ev.Array), ev.Pointers, ev.Words}
}
