// Vmxcheck checks a run of scripts/vmxkit: whether the module published what
// VMREAD returned, and whether the guests ran on unharmed.
//
//	go run ./internal/cmd/vmxcheck [--refused TEXT | --loads N | --fleet NAME | --idle TEXT] RUNDIR
//
// With --refused nothing must have been loaded, or recorded, and the module or
// record must have said TEXT. With --fleet there was no module, and the layout
// that the run NAME found must be the dump's note. With --loads the module must
// have been loaded that many times while guests ran. With --idle no guest ran,
// and the host's last words must have TEXT. It prints what is wrong, a line
// each, and a verdict; its exit status is 1 if anything is.
package main

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"vmcsnote/elfnote"
	"vmcsnote/internal/probefile"
	"vmcsnote/record"
	"vmcsnote/vmcs"
)

// A run is the folder with what a run has kept.
type run struct {
	dir    string
	checks int
	failed int
}

func main() {
	refused := flag.String("refused", "", "what the module shall have said")
	loads := flag.Int("loads", 0, "times the module shall have been loaded")
	fleet := flag.String("fleet", "", "the run whose layout the host has")
	idle := flag.String("idle", "", "what the host shall have said at its end, without guests")
	flag.Parse()
	if flag.NArg() != 1 {
		flag.Usage()
		os.Exit(2)
	}
	r := &run{dir: flag.Arg(0)}
	switch {
	case *refused != "":
		r.refused(*refused)
	case *idle != "":
		r.layouts()
		r.panicked(*idle)
		r.dump("load.insmod", "record.log", "kexec.log", "inject.log")
	case *fleet != "":
		r.fleet(*fleet)
	default:
		r.loaded(*loads)
	}
	r.quiet()
	fmt.Printf("%s: %d checks, %d failed\n", filepath.Base(r.dir), r.checks, r.failed)
	if r.failed > 0 {
		os.Exit(1)
	}
}

// refused requires that the module did not load, and said why.
func (r *run) refused(text string) {
	log := r.read("refused")
	r.ok(log != "" && !strings.HasSuffix(log, "exit=0\n"), "it was not refused")
	r.ok(strings.Contains(log+r.read("first.dmesg"), text), "neither the program nor the kernel's log has %q", text)
}

// fleet judges a run without the module, on a host that has the layout which
// another host's run found.
func (r *run) fleet(canary string) {
	log := r.read("install")
	r.ok(strings.HasSuffix(log, "exit=0\n") && strings.Contains(log, "it fits this machine"), "install: %s", log)
	r.guests()
	r.statistics()
	r.dump("record.log", "kexec.log", "inject.log")
	file, err := os.ReadFile(filepath.Join(filepath.Dir(r.dir), canary, "out", "before.layout"))
	if !r.ok(err == nil, "%v", err) {
		return
	}
	note, err := exec.Command(os.Getenv("TOOL"), "show", "--note", "VMCSINFO", filepath.Join(r.dir, "vmcore")).Output()
	r.ok(err == nil && string(note) == string(file), "the dump's VMCSINFO is not the layout that %s found (%v)", canary, err)
	r.fields(strings.Count(string(file), "FIELD("))
}

// loaded judges a run in which the module loads.
func (r *run) loaded(loads int) {
	layout := r.layouts()
	if layout != nil {
		r.live(layout)
	}
	r.guests()
	r.statistics()
	n := strings.TrimSpace(r.read("loads"))
	r.ok(n == strconv.Itoa(loads), "loaded %s times while guests ran, expected %d", n, loads)
	if _, err := os.Stat(filepath.Join(r.dir, "vmcore")); err == nil || strings.Contains(r.read("first.dmesg"), "vmx.end=kdump") {
		if strings.Contains(r.read("first.dmesg"), "vmx.end=turn") {
			r.panicked("VMX operation is KVM's")
		}
		r.dump("load.insmod", "record.log", "kexec.log", "inject.log")
	}
}

// panicked requires that the module ended the host within a turn.
func (r *run) panicked(text string) {
	b, err := os.ReadFile(filepath.Join(r.dir, "serial.out"))
	text = "Kernel panic - not syncing: vmcsinfo: within a turn, " + text
	r.ok(err == nil && strings.Contains(string(b), text), "the console does not have %q (%v)", text, err)
}

// ok counts a check, and prints what is wrong if it fails.
func (r *run) ok(ok bool, format string, args ...any) bool {
	r.checks++
	if !ok {
		r.failed++
		fmt.Printf("FAIL "+format+"\n", args...)
	}
	return ok
}

// read reads one of the files that init kept.
func (r *run) read(name string) string {
	b, err := os.ReadFile(filepath.Join(r.dir, "out", name))
	r.ok(err == nil, "%v", err)
	return string(b)
}

// layouts reads the notes published at four moments, and requires that they say
// the same: before kvm_intel, with it loaded and idle, while guests run, and
// then in the form of 2012.
func (r *run) layouts() *vmcs.Layout {
	var first *vmcs.Layout
	for _, moment := range []string{"before", "idle", "guests", "cells"} {
		for _, step := range []string{"insmod", "record", "submit", "rmmod"} {
			log := r.read(moment + "." + step)
			r.ok(strings.HasSuffix(log, "exit=0\n"), "%s, %s: %s", moment, step, log)
		}
		l, err := readLayout(filepath.Join(r.dir, "out", moment+".rec"))
		if !r.ok(err == nil, "%s: %v", moment, err) {
			continue
		}
		r.ok(len(l.Warnings) == 0, "%s: %s", moment, strings.Join(l.Warnings, "; "))
		want := vmcs.FormOffsets
		if moment == "cells" {
			want = vmcs.FormCells
		}
		r.ok(l.Form == want, "%s: form %s, expected %s", moment, l.Form, want)
		if first == nil {
			first = l
		}
		r.same(moment, first, l)
	}
	r.probe(first)
	return first
}

// probe requires that the file of debug=1 has as many fields as the layout, and
// what each changed.
func (r *run) probe(l *vmcs.Layout) {
	b, err := os.ReadFile(filepath.Join(r.dir, "out", "cells.probe"))
	if !r.ok(err == nil && l != nil, "%v", err) {
		return
	}
	f, err := probefile.Parse(b)
	if !r.ok(err == nil, "cells.probe: %v", err) {
		return
	}
	r.ok(f.Located() == len(l.Entries), "cells.probe has %d fields, the note %d", f.Located(), len(l.Entries))
	for _, field := range f.Fields {
		if field.Offset >= 0 && field.Write == 0 {
			r.ok(len(field.Alone) > 0, "cells.probe: VMWRITE of field %v alone changed nothing", field.Encoding)
		}
	}
}

func readLayout(path string) (*vmcs.Layout, error) {
	rec, err := record.ReadFile(path)
	if err != nil {
		return nil, err
	}
	n, err := elfnote.FromBlob(rec.Note, elfnote.VMCSInfo, 0, binary.LittleEndian)
	if err != nil {
		return nil, err
	}
	return vmcs.ParseNote(n.Desc)
}

// same requires that two layouts are equal.
func (r *run) same(moment string, a, b *vmcs.Layout) {
	r.ok(a.RevisionID == b.RevisionID, "%s: revision id %#x, expected %#x", moment, b.RevisionID, a.RevisionID)
	r.ok(a.AccessRights == b.AccessRights, "%s: access rights %s, expected %s", moment, b.AccessRights, a.AccessRights)
	r.ok(len(a.Entries) == len(b.Entries), "%s: %d fields, expected %d", moment, len(b.Entries), len(a.Entries))
	for _, e := range a.Entries {
		o, ok := b.Lookup(e.Name)
		r.ok(ok && o.Offset == e.Offset && o.Width == e.Width, "%s: %s at %#x, %d bytes, expected %#x, %d",
			moment, e.Name, o.Offset, o.Width, e.Offset, e.Width)
	}
}

// live compares the page of the VMCS that was current with what VMREAD said.
// Every field that VMREAD can read must be in the layout.
func (r *run) live(l *vmcs.Layout) {
	page, err := hex.DecodeString(r.read("live.page"))
	if !r.ok(err == nil && len(page) == vmcs.PageSize, "live.page has %d bytes (%v)", len(page), err) {
		return
	}
	v := &vmcs.VMCS{Page: page, Layout: l}
	r.ok(v.RevisionID() == l.RevisionID, "the page's revision id is %#x, the note's %#x", v.RevisionID(), l.RevisionID)
	fields := 0
	for line := range strings.Lines(r.read("live.fields")) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		want, err := strconv.ParseUint(value, 16, 64)
		if name == "VMCS" || !r.ok(err == nil, "%v", err) {
			continue
		}
		got, ok := v.Field(name)
		r.ok(ok && got == want, "%s is %#x in the page (located: %v), VMREAD says %#x", name, got, ok, want)
		fields++
	}
	r.ok(fields == len(l.Entries), "VMREAD reads %d fields, the note has %d", fields, len(l.Entries))
}

// guests requires that every vCPU had the registers it was given, and has them
// still after all that was done around it.
func (r *run) guests() {
	expect := make(map[string]string)
	runs := make(map[string]int)
	lines := bufio.NewScanner(strings.NewReader(r.read("guests.log")))
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		if !r.ok(len(words) > 1 && words[1] != "FAIL", "%s", lines.Text()) {
			continue
		}
		registers := strings.Join(words[2:min(6, len(words))], " ")
		switch words[1] {
		case "EXPECT":
			expect[words[0]] = registers
		case "RUN":
			runs[words[0]]++
			r.ok(equalRegisters(expect[words[0]], registers), "%s: %s, expected %s", words[0], registers, expect[words[0]])
		}
	}
	r.ok(len(expect) > 0, "no guest ran")
	for vcpu := range expect {
		r.ok(runs[vcpu] == 2, "%s ran %d times, expected once before and once after", vcpu, runs[vcpu])
	}
}

// statistics requires that KVM entered guests between the first look at its
// counters and the last, and that it met nothing new that it could not emulate.
// An entry that fails ends a guest's program, which says so, and KVM logs its
// VMCS.
func (r *run) statistics() {
	before, after := r.counters("statistics.before"), r.counters("statistics.after")
	r.ok(after["exits"] > before["exits"], "KVM counted %d exits before, %d after", before["exits"], after["exits"])
	fails, ok := after["insn_emulation_fail"]
	r.ok(ok && fails == before["insn_emulation_fail"], "KVM counted %d failed emulations before, %d after", before["insn_emulation_fail"], fails)
}

func (r *run) counters(name string) map[string]uint64 {
	counters := make(map[string]uint64)
	for line := range strings.Lines(r.read(name)) {
		if words := strings.Fields(line); len(words) == 2 {
			counters[words[0]], _ = strconv.ParseUint(words[1], 10, 64)
		}
	}
	return counters
}

// equalRegisters compares the registers of an EXPECT line with those of a RUN
// line. The instruction after a HLT is where KVM says a halted vCPU is.
func equalRegisters(expect, got string) bool {
	e, g := strings.Fields(expect), strings.Fields(got)
	if len(e) != 4 || len(g) != 4 {
		return false
	}
	for i := range e {
		name, value, _ := strings.Cut(e[i], "=")
		name2, value2, _ := strings.Cut(g[i], "=")
		a, err := strconv.ParseUint(value, 0, 64)
		b, err2 := strconv.ParseUint(value2, 0, 64)
		if name != name2 || err != nil || err2 != nil || a != b && (name != "rip" || a+1 != b) {
			return false
		}
	}
	return true
}

// splats are what the kernel prints when something has gone wrong in it.
var splats = []string{"BUG:", "WARNING:", "Oops", "Call Trace", "general protection", "unchecked MSR", "invalid opcode", "scheduling while atomic",
	"failed VM entry", "failed vm entry", "VM-entry failed", "*** Guest State ***", "VMREAD failed", "vmread failed", "vmwrite failed", "vmptrld", "vmclear fail"}

// emulatorSplat is what Linux says since 6.9 of the CPUID leaves of Bochs with
// one processor, before it does anything else.
var emulatorSplat = regexp.MustCompile(`\[ +0\.000000\] WARNING: .* parse_legacy\+.*\n(\[ +0\.000000\] .*\n)*?\[ +0\.000000\] ---\[ end trace .*\n`)

// quiet requires that no kernel complained, nor the console.
func (r *run) quiet() {
	logs := []string{"first.dmesg"}
	if _, err := os.Stat(filepath.Join(r.dir, "vmcore")); err == nil {
		logs = append(logs, "capture.dmesg")
	}
	for _, name := range logs {
		log := emulatorSplat.ReplaceAllString(r.read(name), "")
		for _, s := range splats {
			r.ok(!strings.Contains(log, s), "%s has %q", name, s)
		}
	}
	b, err := os.ReadFile(filepath.Join(r.dir, "serial.out"))
	r.ok(err == nil, "%v", err)
	for line := range strings.Lines(string(b)) {
		r.ok(!strings.Contains(line, "] FAIL"), "%s", strings.TrimSpace(line))
	}
}
