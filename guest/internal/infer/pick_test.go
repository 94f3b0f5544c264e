package infer

import (
	"slices"
	"testing"

	"vmcsnote/guest/internal/fakekvm"
	"vmcsnote/vmcs"
)

// TestNeighbours: vCPUs of one guest have the same CR0, CR3 and CR4, and often
// lie side by side.
func TestNeighbours(t *testing.T) {
	for _, tt := range []struct {
		name string
		lack []int // vCPUs whose array does not fit, or is missing
		cut  []int // vCPUs without a pointer
		cpus int
		want []uint64 // RAX
	}{
		{name: "all there", cpus: 4, want: []uint64{0x100, 0x200, 0x300, 0x400}},
		{name: "the registers of one are missing", lack: []int{2}, cpus: 4, want: []uint64{0x100, 0x200, 0, 0x400}},
		{name: "of the first", lack: []int{0}, cpus: 4, want: []uint64{0, 0x200, 0x300, 0x400}},
		{name: "the pointer of one is missing: what is left is its", cut: []int{1}, cpus: 4, want: []uint64{0x100, 0x200, 0x300, 0x400}},
		{name: "registers of one, pointer of the next", lack: []int{2}, cut: []int{1}, cpus: 4, want: []uint64{0x100, 0, 0, 0x400}},
		{name: "two, of which only one has registers", lack: []int{1}, cpus: 2, want: []uint64{0x100, 0}},
		{name: "two, of which only one has registers, and no pointers", lack: []int{1}, cut: []int{0, 1}, cpus: 2, want: []uint64{0, 0}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := fakekvm.New()
			var vs []*vmcs.VMCS
			for i := range tt.cpus {
				at, addr := fakekvm.Array+uint64(i)*fakekvm.Size, fakekvm.VMCSAddr+uint64(i)<<12
				if !slices.Contains(tt.lack, i) {
					m.Exact(at, 0x100*uint64(i+1))
				}
				if !slices.Contains(tt.cut, i) {
					m.PointTo(addr, at+fakekvm.Distance, true)
				}
				vs = append(vs, fakekvm.VMCS(addr, nil))
			}
			for i, f := range search(t, m, nil, vs) {
				if got := f.Copies.GPR[0]; got != tt.want[i] || f.Known() != (got != 0) {
					t.Errorf("vCPU %d: rax %#x, want %#x; %+v", i, got, tt.want[i], f)
				}
			}
		})
	}
}

// TestSameVMCSTwice: registers that two VMCSs would have are nobody's.
func TestSameVMCSTwice(t *testing.T) {
	m := fakekvm.New()
	m.Live()
	v := fakekvm.VMCS(fakekvm.VMCSAddr, nil)
	for i, f := range search(t, m, nil, []*vmcs.VMCS{v, m.Witness(), v}) {
		if f.Known() != (i == 1) {
			t.Errorf("VMCS %d: %+v", i, f)
		}
	}
}

// TestManyVCPUs: a guest may have more vCPUs than arrays are kept that look
// like one's.
func TestManyVCPUs(t *testing.T) {
	for held, pointers := range map[string]bool{"both": true, "words": false} {
		m := fakekvm.New()
		var vs []*vmcs.VMCS
		for i := range uint64(3 * maxHeld) {
			at, rsp, addr := fakekvm.Array+i*fakekvm.Size, fakekvm.GuestRSP+i<<14, fakekvm.VMCSAddr+i<<12
			m.Registers(at, 0x100*(i+1), 0)
			m.Put(at+8*fakekvm.RSP, rsp)
			if pointers {
				m.PointTo(addr, at+fakekvm.Distance, true)
			}
			vs = append(vs, fakekvm.VMCS(addr, map[string]uint64{"GUEST_RSP": rsp}))
		}
		for i, f := range search(t, m, nil, vs) {
			if f.Copies.GPR[0] != 0x100*uint64(i+1) || f.held() != held {
				t.Errorf("vCPU %d: rax %#x, by %q, want by %q", i, f.Copies.GPR[0], f.held(), held)
			}
		}
	}
}

// TestFull: memory full of what looks like registers costs no more than a
// bound.
func TestFull(t *testing.T) {
	m := fakekvm.New()
	for i := range uint64(10 * maxHeld) {
		array := 0x100000 + i*8*fakekvm.Words
		m.Registers(array, array, 0)
		m.Put(0x300000+8*i, m.Base+fakekvm.VMCSAddr)
	}
	v := fakekvm.VMCS(fakekvm.VMCSAddr, nil)
	if f := search(t, m, nil, []*vmcs.VMCS{v, v, v})[0]; f.Pointers != maxHeld || f.Words != maxHeld || f.Known() {
		t.Errorf("%+v", f)
	}
}
