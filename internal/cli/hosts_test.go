package cli_test

import (
	"bytes"
	"crypto/sha256"
	"debug/elf"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"math/bits"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/pkg/errors"
	"github.com/rogpeppe/go-internal/testscript"

	"vmcsnote/guest"
	"vmcsnote/internal/testcores"
	"vmcsnote/vmcore"
	"vmcsnote/vmcs"
)

// The commands of scripts about the hosts in testdata/cores/vmx and
// testdata/cores/linux-guest; see TestScripts.

// cores is a path in testdata/cores.
func cores(ts *testscript.TestScript, name string) string {
	dir, err := testcores.Dir()
	ts.Check(err)
	return filepath.Join(dir, filepath.FromSlash(name))
}

func host(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 2, 2)
	expand(ts, testcores.Image(tb(ts), args[0]), args[1])
}

// nonote takes VMCSINFO out of a host's memory, and with a revision identifier
// puts that in the place of the one that the VMCSs have.
func nonote(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 1, 2)
	b, err := os.ReadFile(ts.MkAbs(args[0]))
	ts.Check(err)
	if !bytes.Contains(b, []byte("VMCSINFO\x00")) {
		ts.Fatalf("no VMCSINFO in %s", args[0])
	}
	b = bytes.ReplaceAll(b, []byte("VMCSINFO\x00"), []byte("*********"))
	if len(args) == 2 {
		id, err := strconv.ParseUint(args[1], 0, 31)
		ts.Check(err)
		n := 0
		for i := 0; i+4096 <= len(b); i += 4096 {
			if binary.LittleEndian.Uint32(b[i:]) == 0x2b {
				binary.LittleEndian.PutUint32(b[i:], uint32(id))
				n++
			}
		}
		ts.Logf("%d pages", n)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), b, 0o600))
}

// hostMachines finds the machines in a host's dump, those of the lowest VPID
// first.
func hostMachines(ts *testscript.TestScript, c vmcore.Core) []*guest.Machine {
	found, err := vmcs.Find(tb(ts).Context(), c, vmcs.Search{})
	ts.Check(err)
	return guest.Machines(c, found.VMCSs)
}

func vpid(c *guest.VCPU) int {
	id, _ := c.VPID()
	return int(id)
}

// nest makes guest 1 of the host hsw-default, vCPU 0, a hypervisor with a
// guest: at its page 0x9000 there is a VMCS as KVM keeps it for a hypervisor
// that runs in it, at 0x8000 an EPT.
func nest(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 1, 1)
	path := ts.MkAbs(args[0])
	c, err := vmcore.OpenFile(path)
	ts.Check(err)
	defer c.Close()
	m := hostMachines(ts, c)[1]
	v := m.VCPUs[slices.IndexFunc(m.VCPUs, func(v *guest.VCPU) bool { return vpid(v) == 2 })]
	mem, err := m.Memory()
	ts.Check(err)
	at, err := mem.Translate(0x9000)
	ts.Check(err)
	ept, err := mem.Translate(0x8000)
	ts.Check(err)
	ls := vmcs.Builtin()
	inner := ls[slices.IndexFunc(ls, func(l *vmcs.Layout) bool { return l.Name == "kvm-nested-vmcs12" })]
	page := make([]byte, 4096)
	binary.LittleEndian.PutUint32(page, inner.RevisionID)
	put := func(l *vmcs.Layout, page []byte, name string, value uint64) {
		e, ok := l.Lookup(name)
		if !ok {
			return
		}
		var b [8]byte
		binary.LittleEndian.PutUint64(b[:], value)
		copy(page[e.Offset:], b[:e.Width])
	}
	for _, e := range inner.Entries {
		if x, ok := v.Field(e.Name); ok {
			put(inner, page, e.Name, x)
		}
	}
	for name, value := range map[string]uint64{"EPT_POINTER": 0x805e, "HOST_CR3": 0x50000, "GUEST_RIP": 0xabcd000, "VIRTUAL_PROCESSOR_ID": 9} {
		put(inner, page, name, value)
	}
	outer := slices.Clone(v.Page)
	put(v.Layout, outer, "CR4_READ_SHADOW", 0x2620)
	root := make([]byte, 4096)
	binary.LittleEndian.PutUint64(root, 0x52007)
	for addr, b := range map[uint64][]byte{at.Phys: page, ept.Phys: root, v.Addr: outer} {
		patchMemory(ts, path, addr, b)
	}
}

// process makes the core that gcore would have written of the process that ran
// a machine, out of the host's dump: with "lean" without pages that nobody has
// written to, with "bare" without the guest's memory as well, with "half"
// without every other page of that.
func process(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 3, 4)
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	c, err := vmcore.OpenFile(ts.MkAbs(args[0]))
	ts.Check(err)
	defer c.Close()
	m := hostMachines(ts, c)[n]
	leave := func(guest.Mapping) bool { return false }
	if len(args) == 4 {
		mem, err := m.Memory()
		ts.Check(err)
		leave = func(page guest.Mapping) bool {
			const writable = 1 << 1
			ofGuest := slices.ContainsFunc(mem.Slots(), func(s guest.Slot) bool { return page.Addr-s.HVA < s.Size })
			if args[3] == "half" {
				return ofGuest && page.Addr>>12&1 == 0
			}
			return page.Entry&writable == 0 || args[3] == "bare" && ofGuest
		}
	}
	var notes, memory []byte
	threads := make(map[uint64]bool)
	for _, v := range m.VCPUs {
		r := &guest.Registers{}
		fs, _ := v.Field("HOST_FS_BASE")
		if r.Seg[guest.FS].Base.Value = fs; !threads[fs] {
			notes = append(notes, guest.PRStatus(uint32(1000+len(threads)), r).Encode(binary.LittleEndian)...)
		}
		threads[fs] = true
	}
	cr3, _ := m.VCPUs[0].Field("HOST_CR3")
	cr4, _ := m.VCPUs[0].Field("HOST_CR4")
	loads := []elf.Prog64{{Type: uint32(elf.PT_NOTE), Filesz: uint64(len(notes))}}
	for page, err := range guest.NewProcess(c, cr3, cr4).Mappings() {
		if err != nil || leave(page) {
			continue
		}
		b := make([]byte, page.Size)
		n, _ := c.ReadPhys(b, page.Phys)
		loads = append(loads, elf.Prog64{Type: uint32(elf.PT_LOAD), Vaddr: page.Addr, Off: uint64(len(notes) + len(memory)), Filesz: uint64(n), Memsz: page.Size, Align: 1})
		memory = append(memory, b[:n]...)
	}
	head := elf.Header64{Type: uint16(elf.ET_CORE), Machine: uint16(elf.EM_X86_64), Version: 1, Phoff: 64, Ehsize: 64, Phentsize: 56, Phnum: uint16(len(loads))}
	copy(head.Ident[:], elf.ELFMAG+"\x02\x01\x01")
	const room = 4096 // for notes to come
	for i := range loads {
		loads[i].Off += uint64(64 + 56*len(loads))
		if i > 0 {
			loads[i].Off += room
		}
	}
	var b bytes.Buffer
	for _, v := range []any{head, loads, notes, make([]byte, room), memory} {
		ts.Check(binary.Write(&b, binary.LittleEndian, v))
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[2]), b.Bytes(), 0o600))
}

// A guestsDocument is what these tests read of guests --json.
type guestsDocument struct {
	Layout struct {
		From, Name, Form string
		RevisionID       string `json:"revision_id"`
		AccessRights     string `json:"access_rights"`
	}
	Guests []struct {
		ID    int
		EPTP  string
		VCPUs []struct {
			ID         int
			VMCS       string
			VPID       uint16
			Stale      bool
			ExitReason string `json:"exit_reason"`
			Fields     map[string]string
			Registers  map[string]struct{ Value, From string }
		}
	}
	Others []struct{ VMCS, Verdict string }
}

func readDocument(ts *testscript.TestScript, file string) (d guestsDocument) {
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(file)), &d))
	return d
}

// fields compares all VMCSs of guests --json with what is known of a host.
func fields(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 2, 2)
	var want struct {
		Offsets map[string]int // those that the processor has
		VMCS    []struct {
			PA     uint64
			Fields map[string]uint64
		}
	}
	b, err := os.ReadFile(cores(ts, args[1]+"/check.json"))
	ts.Check(err)
	ts.Check(json.Unmarshal(b, &want))
	got := make(map[string]map[string]string)
	for _, g := range readDocument(ts, args[0]).Guests {
		for _, v := range g.VCPUs {
			got[v.VMCS] = v.Fields
		}
	}
	if len(got) != len(want.VMCS) || len(got) != 5 {
		ts.Fatalf("%d VMCSs, expected %d", len(got), len(want.VMCS))
	}
	for _, v := range want.VMCS {
		fs := got[fmt.Sprintf("%#x", v.PA)]
		if len(fs) != len(want.Offsets) || len(fs) < 100 {
			ts.Fatalf("VMCS %#x has %d fields, expected %d", v.PA, len(fs), len(want.Offsets))
		}
		for name := range want.Offsets {
			value := v.Fields[name]
			if strings.HasSuffix(name, "_AR_BYTES") { // check.json has them as they lie in the page
				value = uint64(bits.RotateLeft32(uint32(value), -8))
			}
			if fs[name] != fmt.Sprintf("%#x", value) {
				ts.Fatalf("VMCS %#x: %s is %q, expected %#x", v.PA, name, fs[name], value)
			}
		}
	}
}

// truth compares the registers of guests --json with what KVM said of the
// guest.
func truth(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 2, 2)
	want := make(map[string]string)
	for line := range strings.Lines(ts.ReadFile(cores(ts, args[1]+"/truth.txt"))) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			want[strings.ToUpper(name)] = "0x" + value
		}
	}
	want["KERNEL_GS_BASE"] = want["MSR_C0000102"]
	d := readDocument(ts, args[0])
	if len(d.Guests) != 1 || len(d.Guests[0].VCPUs) != 1 {
		ts.Fatalf("not one guest with one vCPU")
	}
	known := 0
	for name, r := range d.Guests[0].VCPUs[0].Registers {
		if name == "APIC_ID" {
			continue
		}
		if want[name] == "" {
			ts.Fatalf("nothing is known of %s", name)
		}
		if r.From == "unknown" && r.Value == "" {
			continue
		}
		if known++; r.Value != want[name] {
			ts.Fatalf("%s is %s by %s, expected %s", name, r.Value, r.From, want[name])
		}
	}
	if known < 24 {
		ts.Fatalf("%d registers are known, expected 24 at least", known)
	}
}

// pages compares a guest's core with the hashes of its memory.
func pages(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 2, 2)
	var want struct{ Pages map[string]string }
	b, err := os.ReadFile(cores(ts, args[1]+"/expected-thin.json"))
	ts.Check(err)
	ts.Check(json.Unmarshal(b, &want))
	if len(want.Pages) < 300 {
		ts.Fatalf("only %d pages are known", len(want.Pages))
	}
	f, err := elf.Open(ts.MkAbs(args[0]))
	ts.Check(err)
	defer f.Close()
	got := make(map[string]string)
	for _, p := range f.Progs {
		if p.Type != elf.PT_LOAD {
			continue
		}
		if p.Filesz != p.Memsz || p.Filesz == 0 || p.Paddr%4096 != 0 {
			ts.Fatalf("PT_LOAD %+v", p.ProgHeader)
		}
		for off := uint64(0); off < p.Filesz; off += 4096 {
			page := make([]byte, 4096)
			_, err := p.ReadAt(page, int64(off))
			ts.Check(err)
			if sum := sha256.Sum256(page); !bytes.Equal(page, make([]byte, 4096)) {
				got[strconv.FormatUint((p.Paddr+off)/4096, 16)] = hex.EncodeToString(sum[:8])
			}
		}
	}
	for _, pfn := range slices.Sorted(maps.Keys(want.Pages)) {
		if got[pfn] != want.Pages[pfn] {
			ts.Check(errors.Errorf("page %s: %s, expected %s", pfn, got[pfn], want.Pages[pfn]))
		}
	}
}
