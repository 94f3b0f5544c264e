package main

import (
	"debug/elf"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"vmcsnote/elfnote"
	"vmcsnote/record"
)

// A vcpu is what the log says of a virtual CPU.
type vcpu struct {
	name               string
	rip, rsp, r15, cr3 uint64
	code               string // hexadecimal, at gpa
	gpa                uint64
}

// dump requires of the host's dump that the steps that led to it succeeded,
// that it has the note, that guests finds every vCPU of the log with its
// registers, and that --read and extract find its code.
func (r *run) dump(steps ...string) {
	core := filepath.Join(r.dir, "vmcore")
	tool := os.Getenv("TOOL")
	if !r.ok(tool != "", "TOOL does not say which vmcsnote to use") {
		return
	}
	vmcsnote := func(args ...string) string {
		out, err := exec.Command(tool, args...).Output()
		r.ok(err == nil, "vmcsnote %s: %v", strings.Join(args, " "), err)
		return string(out)
	}
	for _, step := range steps {
		log := r.read(step)
		r.ok(strings.HasSuffix(log, "exit=0\n"), "%s: %s", step, log)
	}
	err := cut(core)
	r.ok(err == nil, "%v", err)
	r.note(core)
	vmcsnote("verify", "--deep", core)
	var report struct {
		Guests []struct {
			ID    int    `json:"id"`
			EPTP  string `json:"eptp"`
			VCPUs []struct {
				ID        int `json:"id"`
				Registers map[string]struct{ Value string }
			} `json:"vcpus"`
		}
		Others []struct{ Verdict string }
	}
	if err := json.Unmarshal([]byte(vmcsnote("guests", "--json", core)), &report); !r.ok(err == nil, "guests --json: %v", err) {
		return
	}
	want := r.expected()
	found := 0
	for _, g := range report.Guests {
		for _, c := range g.VCPUs {
			value := func(n string) uint64 {
				v, _ := strconv.ParseUint(c.Registers[n].Value, 0, 64)
				return v
			}
			w, ok := want[value("R15")]
			if !r.ok(ok, "guest %d, vCPU %d: R15 is %#x, which is nobody's", g.ID, c.ID, value("R15")) {
				continue
			}
			found++
			r.ok(value("RIP") == w.rip || value("RIP") == w.rip+1, "%s: RIP is %#x, expected %#x", w.name, value("RIP"), w.rip)
			r.ok(value("RSP") == w.rsp, "%s: RSP is %#x, expected %#x", w.name, value("RSP"), w.rsp)
			id := strconv.Itoa(g.ID)
			if g.EPTP == "" { // GUEST_CR3 is KVM's, and only virtual addresses can be read
				out := vmcsnote("guests", "--guest", id, "--vcpu", strconv.Itoa(c.ID), "--read", fmt.Sprintf("gva:%#x:%d", w.gpa, len(w.code)/2), core)
				r.ok(undump(out) == w.code, "%s: code at gva %#x is %s, expected %s", w.name, w.gpa, undump(out), w.code)
				continue
			}
			r.ok(value("CR3") == w.cr3, "%s: CR3 is %#x, expected %#x", w.name, value("CR3"), w.cr3)
			out := vmcsnote("guests", "--guest", id, "--read", fmt.Sprintf("gpa:%#x:%d", w.gpa, len(w.code)/2), core)
			r.ok(undump(out) == w.code, "%s: code at gpa %#x is %s, expected %s", w.name, w.gpa, undump(out), w.code)
			guest := filepath.Join(r.dir, "guest."+id)
			vmcsnote("extract", "--force", "--guest", id, "-o", guest, core)
			vmcsnote("verify", guest)
		}
	}
	r.ok(found == len(want), "%d vCPUs found, expected %d", found, len(want))
	r.ok(len(report.Others) == 0, "pages that are no vCPU's: %v", report.Others)
}

// fields requires that every vCPU in the dump has that many fields.
func (r *run) fields(want int) {
	var report struct {
		Guests []struct {
			VCPUs []struct{ Fields map[string]any }
		}
	}
	out, err := exec.Command(os.Getenv("TOOL"), "guests", "--json", filepath.Join(r.dir, "vmcore")).Output()
	if err == nil {
		err = json.Unmarshal(out, &report)
	}
	if !r.ok(err == nil, "guests --json: %v", err) {
		return
	}
	for i, g := range report.Guests {
		for j, c := range g.VCPUs {
			r.ok(len(c.Fields) == want, "guest %d, vCPU %d: %d fields, expected %d", i, j, len(c.Fields), want)
		}
	}
}

// cut shortens the image of the disk that the dump was written to, so that it
// ends where the dump does.
func cut(core string) error {
	f, err := elf.Open(core)
	if err != nil {
		return err
	}
	defer f.Close()
	var end uint64
	for _, p := range f.Progs {
		end = max(end, p.Off+p.Filesz)
	}
	return os.Truncate(core, int64(end))
}

// note requires that the note added to the dump is the one that was recorded.
func (r *run) note(core string) {
	rec, err := record.ReadFile(filepath.Join(r.dir, "out", "record"))
	if !r.ok(err == nil, "%v", err) {
		return
	}
	want, err := elfnote.FromBlob(rec.Note, elfnote.VMCSInfo, 0, binary.LittleEndian)
	if !r.ok(err == nil, "the record's note: %v", err) {
		return
	}
	got, err := exec.Command(os.Getenv("TOOL"), "show", "--note", "VMCSINFO", core).Output()
	r.ok(err == nil && string(got) == string(want.Desc), "the dump's VMCSINFO is not the one recorded (%v)", err)
}

// expected reads the log: the vCPUs by their R15, which differs for each.
func (r *run) expected() map[uint64]*vcpu {
	want := make(map[uint64]*vcpu)
	code := make(map[string][2]string)
	number := regexp.MustCompile(`(\w+)=(0x)?([0-9a-f]+)`)
	for line := range strings.Lines(r.read("guests.log")) {
		words := strings.Fields(line)
		values := make(map[string]string)
		for _, m := range number.FindAllStringSubmatch(line, -1) {
			values[m[1]] = m[3]
		}
		hex := func(n string) uint64 { v, _ := strconv.ParseUint(values[n], 16, 64); return v }
		switch words[1] {
		case "CODE":
			code[words[0]] = [2]string{values["gpa"], values["bytes"]}
		case "EXPECT":
			gpa, _ := strconv.ParseUint(code[words[0]][0], 16, 64)
			want[hex("r15")] = &vcpu{words[0], hex("rip"), hex("rsp"), hex("r15"), hex("cr3"), code[words[0]][1], gpa}
		}
	}
	return want
}

// undump takes the bytes out of a hex dump.
func undump(s string) string {
	var b strings.Builder
	for line := range strings.Lines(s) {
		line, _, _ = strings.Cut(line, "|")
		if words := strings.Fields(line); len(words) > 1 {
			b.WriteString(strings.Join(words[1:], ""))
		}
	}
	return b.String()
}
