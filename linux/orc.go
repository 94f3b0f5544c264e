package linux

import (
	"encoding/binary"
	"slices"

	"github.com/pkg/errors"
)

const (
	maxORCEntries  = 8 << 20
	orcAddressSize = 4
)

// An orcReg is what an entry counts from.
type orcReg int

const (
	orcUndefined orcReg = iota // RBP has not changed
	orcPrevSP
	orcAX
	orcDX
	orcDI
	orcBP
	orcSP
	orcR10
	orcR13
	orcBPIndirect // what is in memory where RBP and the offset lead
	orcSPIndirect // the offset counts from what is in memory where RSP leads
)

// How the registers are numbered (arch/x86/include/asm/orc_types.h): until
// 6.19, and since 7.2 at the latest.
var (
	orcRegsOld = []orcReg{orcUndefined, orcPrevSP, orcDX, orcDI, orcBP, orcSP, orcR10, orcR13, orcBPIndirect, orcSPIndirect}
	orcRegsNew = []orcReg{orcUndefined, orcAX, orcDX, orcSP, orcBP, orcDI, orcR10, orcR13, orcPrevSP, orcSPIndirect, orcBPIndirect}
)

// An orcKind is what a frame is.
type orcKind int

const (
	orcNone    orcKind = iota // nothing is known of the code
	orcEnd                    // the outermost frame
	orcCall                   // called: the return address is on top
	orcRegs                   // interrupted: a whole struct pt_regs is on top
	orcPartial                // the same, but only what the processor pushes
)

// orcFields is struct orc_entry. Types were numbered anew in 6.4, when the flag
// end became one of them.
type orcFields struct {
	SPOffset Field `btf:"sp_offset"`
	BPOffset Field `btf:"bp_offset"`
	SPReg    Field `btf:"sp_reg"`
	BPReg    Field `btf:"bp_reg"`
	Type     Field `btf:"type"`
	End      Field `btf:"end,optional"`

	size   uint64
	module struct {
		Num     Field `btf:"arch.num_orcs"`
		Addrs   Field `btf:"arch.orc_unwind_ip"`
		Entries Field `btf:"arch.orc_unwind"`
	}
}

func (f *orcFields) bindings() []Binding {
	return []Binding{{"", "orc_entry", f}, {"", "module", &f.module}}
}

// An orcTable is the ORC tables of the image or of a module: the addresses from
// which on entries hold, each relative to its own place, and the entries.
type orcTable struct {
	addrs, entries, num uint64
}

// An orcEntry says where the caller's frame is.
type orcEntry struct {
	kind               orcKind
	spReg, bpReg       orcReg
	spOffset, bpOffset uint64
}

// orc is what leads to ORC entries.
type orc struct {
	fields orcFields
	image  orcTable
	regs   []orcReg // by number
}

// orc returns the kernel's ORC tables.
func (k *Kernel) orc() (*orc, error) {
	return k.unwind.get(func() (*orc, error) {
		o := new(orc)
		if err := k.bind(o.fields.bindings()...); err != nil {
			return nil, err
		}
		s, err := k.Struct("orc_entry")
		if err != nil {
			return nil, err
		}
		if o.fields.size = s.Size(); o.fields.size == 0 {
			return nil, corrupt("struct orc_entry has no size")
		}
		var stop uint64
		for _, sym := range []struct {
			name string
			to   *uint64
		}{
			{"__start_orc_unwind_ip", &o.image.addrs},
			{"__stop_orc_unwind_ip", &stop},
			{"__start_orc_unwind", &o.image.entries},
		} {
			if *sym.to, err = k.Symbol(sym.name); err != nil {
				return nil, err
			}
		}
		o.image.num = (stop - o.image.addrs) / orcAddressSize
		return o, o.calibrate(k)
	})
}

// calibrate finds out how registers are numbered. Most frames are found by RSP,
// and hardly any by RDI.
func (o *orc) calibrate(k *Kernel) error {
	const samples = 64
	old, sp := slices.Index(orcRegsOld, orcSP), slices.Index(orcRegsNew, orcSP)
	votes := 0
	for i := range uint64(samples) {
		reg, err := k.Value(o.image.entries+i*o.image.num/samples*o.fields.size, o.fields.SPReg)
		if err != nil {
			return errors.WithMessage(err, "ORC")
		}
		switch int(reg) {
		case old:
			votes++
		case sp:
			votes--
		}
	}
	if o.regs = orcRegsOld; votes < 0 {
		o.regs = orcRegsNew
	}
	return nil
}

// reg returns the register that a number means.
func (o *orc) reg(n uint64) (orcReg, error) {
	if n >= uint64(len(o.regs)) {
		return 0, corrupt("ORC: register %d", n)
	}
	return o.regs[n], nil
}

// orcAt returns the entry for an address.
func (k *Kernel) orcAt(addr uint64) (e orcEntry, err error) {
	o, err := k.orc()
	if err != nil {
		return e, err
	}
	table := o.image
	if !k.inImage(addr) {
		m, ok := k.codeOf(addr)
		if !ok {
			return e, errNoORC
		}
		f := &o.fields.module
		err := k.values(m.Addr, want{&f.Num, &table.num}, want{&f.Addrs, &table.addrs}, want{&f.Entries, &table.entries})
		if err != nil {
			return e, err
		}
	}
	i, err := k.orcFind(table, addr)
	if err != nil {
		return e, err
	}
	return k.orcEntry(o, table.entries+i*o.fields.size)
}

// orcFind returns the number of the last entry that begins at or before addr.
func (k *Kernel) orcFind(t orcTable, addr uint64) (uint64, error) {
	if t.num == 0 || t.num > maxORCEntries {
		return 0, errNoORC
	}
	lo, hi := uint64(0), t.num
	for lo < hi {
		mid := (lo + hi) / 2
		at := t.addrs + mid*orcAddressSize
		var b [orcAddressSize]byte
		if _, err := k.Read(b[:], at); err != nil {
			return 0, errors.WithMessage(err, "ORC")
		}
		if at+uint64(int64(int32(binary.LittleEndian.Uint32(b[:])))) <= addr {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	if lo == 0 {
		return 0, errNoORC
	}
	return lo - 1, nil
}

// orcEntry reads an entry.
func (k *Kernel) orcEntry(o *orc, at uint64) (e orcEntry, err error) {
	f := &o.fields
	var typ, spReg, bpReg uint64
	err = k.values(at, want{&f.SPOffset, &e.spOffset}, want{&f.BPOffset, &e.bpOffset}, want{&f.SPReg, &spReg},
		want{&f.BPReg, &bpReg}, want{&f.Type, &typ})
	if err != nil {
		return e, errors.WithMessage(err, "ORC")
	}
	if e.spReg, err = o.reg(spReg); err != nil {
		return e, err
	}
	if e.bpReg, err = o.reg(bpReg); err != nil {
		return e, err
	}
	if !f.End.Valid() { // since 6.4: undefined, end, call, regs, partial
		if typ > uint64(orcPartial) {
			return e, corrupt("ORC entry at %#x has type %d", at, typ)
		}
		e.kind = orcKind(typ)
		return e, nil
	}
	end, err := k.Value(at, f.End)
	switch {
	case err != nil:
		return e, errors.WithMessage(err, "ORC")
	case e.spReg == orcUndefined && end != 0:
		e.kind = orcEnd
	case e.spReg == orcUndefined:
		e.kind = orcNone
	case typ > uint64(orcPartial-orcCall):
		return e, corrupt("ORC entry at %#x has type %d", at, typ)
	default:
		e.kind = orcCall + orcKind(typ)
	}
	return e, nil
}

// Where struct pt_regs has registers, and what the processor itself pushes,
// from RIP on.
const (
	ptR13   = 16
	ptBP    = 32
	ptR10   = 56
	ptDX    = 96
	ptDI    = 112
	ptRIP   = 128
	pushCS  = 8 // from RIP on
	pushRSP = 24
	userCPL = 3
)

// orcStep goes to the caller by the kernel's ORC tables (unwind_next_frame in
// arch/x86/kernel/unwind_orc.c). It ends at the frame that was entered from
// user mode, or that has no caller.
func (u *unwinder) orcStep() (ended bool, err error) {
	at := u.regs.RIP
	if !u.exact {
		at--
	}
	e, err := u.k.orcAt(at)
	if err != nil {
		return false, err
	}
	switch e.kind {
	case orcNone:
		return false, errNoORC
	case orcEnd:
		return true, nil
	}
	sp, err := u.orcSP(e)
	if err != nil {
		return false, err
	}
	next := Registers{RSP: sp, RBP: u.regs.RBP}
	if e.kind == orcCall {
		next.RIP, err = u.k.Pointer(sp - 8)
	} else {
		next, ended, err = u.interrupted(e.kind, sp)
	}
	if ended || err != nil {
		return ended, err
	}
	switch e.bpReg {
	case orcUndefined:
	case orcPrevSP:
		next.RBP, err = u.k.Pointer(sp + e.bpOffset)
	case orcBP:
		next.RBP, err = u.k.Pointer(u.regs.RBP + e.bpOffset)
	default:
		err = corrupt("ORC: RBP by register %d", e.bpReg)
	}
	if err != nil {
		return false, err
	}
	if !u.k.mayRun(next.RIP) {
		return false, corrupt("a return to %#x", next.RIP)
	}
	if next.RIP == u.regs.RIP && next.RSP == u.regs.RSP {
		return false, ErrLoop
	}
	u.regs, u.whole, u.exact = next, e.kind == orcRegs, e.kind != orcCall
	u.add(next.RIP, ByORC)
	return false, nil
}

// interrupted returns the registers that an interrupt or an exception pushed at
// sp: all of them, or what the processor itself pushes. It ends at those of
// user mode.
func (u *unwinder) interrupted(kind orcKind, sp uint64) (next Registers, user bool, err error) {
	next.RBP = u.regs.RBP
	if kind == orcRegs {
		err = u.pop(sp, slot{ptR13, &next.R13}, slot{ptBP, &next.RBP}, slot{ptR10, &next.R10}, slot{ptDX, &next.RDX}, slot{ptDI, &next.RDI})
		if err != nil {
			return next, false, err
		}
		sp += ptRIP
	}
	var cs uint64
	err = u.pop(sp, slot{0, &next.RIP}, slot{pushCS, &cs}, slot{pushRSP, &next.RSP})
	return next, err == nil && cs&userCPL != 0, err
}

// A slot is a register on the stack, and where to put it.
type slot struct {
	off uint64
	to  *uint64
}

// pop reads registers that were pushed at sp.
func (u *unwinder) pop(sp uint64, all ...slot) (err error) {
	for _, s := range all {
		if *s.to, err = u.k.Pointer(sp + s.off); err != nil {
			return err
		}
	}
	return nil
}

// orcSP returns the stack pointer of the caller, or where its registers are.
func (u *unwinder) orcSP(e orcEntry) (uint64, error) {
	switch e.spReg {
	case orcSP:
		return u.regs.RSP + e.spOffset, nil
	case orcBP:
		return u.regs.RBP + e.spOffset, nil
	case orcSPIndirect: // since 5.13; before, the offset was 0
		sp, err := u.k.Pointer(u.regs.RSP)
		return sp + e.spOffset, err
	case orcBPIndirect:
		return u.k.Pointer(u.regs.RBP + e.spOffset)
	}
	if !u.whole {
		return 0, corrupt("ORC: register %d is unknown", e.spReg)
	}
	switch e.spReg {
	case orcDX:
		return u.regs.RDX, nil
	case orcDI:
		return u.regs.RDI, nil
	case orcR10:
		return u.regs.R10, nil
	case orcR13:
		return u.regs.R13, nil
	}
	return 0, corrupt("ORC: RSP by register %d", e.spReg)
}
