package kvm

import (
	"cmp"
	"iter"
	"sort"

	"github.com/pkg/errors"

	"vmcsnote/linux"
)

const (
	pageShift = 12
	// maxSlots is KVM_MEM_SLOTS_NUM, of an address space.
	maxSlots = 32767
	// maxVCPUs is more than KVM_MAX_VCPUS ever was.
	maxVCPUs = 4096 * 4
)

// A Machine is a virtual machine, KVM's struct kvm.
type Machine struct {
	v *KVM

	Addr uint64 // of its struct kvm
	MM   uint64 // mm_struct of the process that runs it
	PID  int    // of that process, by userspace_pid
	// TDX means that the machine is a guest of Intel's TDX: its memory, its
	// VMCSs and its registers are encrypted.
	TDX bool

	threads map[int]linux.Task
}

func (m *Machine) read() (err error) {
	k, f := m.v.k, &m.v.fields.machine
	if m.MM, err = k.Value(m.Addr, f.MM); err != nil {
		return err
	}
	pid, err := k.Value(m.Addr, f.PID)
	m.PID = int(int32(pid))
	const tdx = 5 // KVM_X86_TDX_VM
	if err == nil && f.Type.Valid() {
		var kind uint64
		kind, err = k.Value(m.Addr, f.Type)
		m.TDX = kind == tdx
	}
	return err
}

// Process returns the first thread of the process that runs the machine. It is
// false if there is none, as when it has exited.
func (m *Machine) Process() (linux.Task, bool, error) {
	t, ok, err := m.v.k.Owner(m.MM)
	if ok || err != nil {
		return t, ok, err
	}
	if m.v.processes == nil { // without CONFIG_MEMCG
		m.v.processes = map[uint64]linux.Task{}
		for t, err := range m.v.k.Tasks() {
			if err != nil || m.v.spend() != nil {
				break
			}
			if mm, err := t.MM(); err == nil && mm != 0 {
				m.v.processes[mm] = t
			}
		}
	}
	t, ok = m.v.processes[m.MM]
	return t, ok, nil
}

// thread returns a thread of the machine's process.
func (m *Machine) thread(tid int) (linux.Task, bool) {
	if m.threads == nil {
		m.threads = map[int]linux.Task{}
		if p, ok, err := m.Process(); ok && err == nil {
			for t, err := range p.Threads() {
				if err != nil || m.v.spend() != nil {
					break
				}
				if tid, err := t.PID(); err == nil {
					m.threads[tid] = t
				}
			}
		}
	}
	t, ok := m.threads[tid]
	return t, ok
}

// A Slot is a piece of guest-physical memory that is memory of the process.
type Slot struct {
	Space int // address space: 0, or 1 for system management mode
	ID    int
	GPA   uint64
	Size  uint64 // in bytes
	HVA   uint64 // in the process
	Flags uint32 // KVM_MEM_LOG_DIRTY_PAGES, KVM_MEM_READONLY...
}

// Slots returns the machine's memory slots, of all address spaces, in order of
// their guest-physical address. What was read before an error is good.
func (m *Machine) Slots() (all []Slot, err error) {
	spaces, err := m.v.k.Elements(m.Addr, m.v.fields.machine.Memslots)
	if err != nil {
		return nil, err
	}
	// The array has the highest first; those before an error are in order, too.
	defer func() {
		sort.SliceStable(all, func(i, j int) bool {
			return all[i].Space < all[j].Space || all[i].Space == all[j].Space && all[i].GPA < all[j].GPA
		})
	}()
	for space, at := range spaces {
		if at == 0 {
			continue
		}
		first := len(all)
		for slot, err := range m.slotsAt(at) {
			if err == nil {
				err = m.v.spend()
			}
			if err != nil {
				return all, errors.WithMessage(err, "memory slots")
			}
			s, err := m.slot(slot)
			if err != nil {
				return all, err
			}
			if s.Size == 0 {
				continue
			}
			if len(all)-first == maxSlots {
				return all, errors.WithMessage(linux.ErrTooMany, "memory slots")
			}
			s.Space = space
			all = append(all, s)
		}
	}
	return all, nil
}

// slotsAt returns the addresses of an address space's slots, by the tree or by
// the array.
func (m *Machine) slotsAt(at uint64) iter.Seq2[uint64, error] {
	k, f := m.v.k, &m.v.fields.slots
	if !f.Tree.Valid() {
		return m.slotArray(at)
	}
	index, err := k.Value(at, f.Index)
	if err != nil || index > 1 {
		return fail[uint64](errors.Errorf("node_idx is %d (%v)", index, err))
	}
	root, err := k.At(at, f.Tree)
	if err != nil {
		return fail[uint64](err)
	}
	node := m.v.fields.slot.Node0
	if index == 1 {
		node = m.v.fields.slot.Node1
	}
	return k.RBTree(root, node)
}

func (m *Machine) slotArray(at uint64) iter.Seq2[uint64, error] {
	k, f := m.v.k, &m.v.fields.slots
	if !f.Array.Valid() || !f.Used.Valid() {
		return fail[uint64](errors.New("neither a tree nor an array of slots"))
	}
	used, err := k.Value(at, f.Used)
	if err != nil {
		return fail[uint64](err)
	}
	first, err := k.At(at, f.Array)
	if err != nil {
		return fail[uint64](err)
	}
	return func(yield func(uint64, error) bool) {
		for i := range min(used, maxSlots+1) {
			if !yield(first+i*f.Array.Stride, nil) {
				return
			}
		}
	}
}

// fail is an iterator that has an error only.
func fail[T any](err error) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) { yield(*new(T), err) }
}

func (m *Machine) slot(at uint64) (s Slot, err error) {
	f := &m.v.fields.slot
	r := reader{k: m.v.k}
	s = Slot{ID: int(int16(r.value(at, f.ID))), HVA: r.value(at, f.HVA), Flags: uint32(r.value(at, f.Flags))}
	base, pages := r.value(at, f.Base), r.value(at, f.Pages)
	if base>>(64-pageShift) != 0 || pages>>(64-pageShift) != 0 || base<<pageShift+pages<<pageShift < base<<pageShift {
		return s, errors.WithMessagef(linux.ErrCorrupt, "memory slot at %#x: %#x pages from %#x", at, pages, base)
	}
	s.GPA, s.Size = base<<pageShift, pages<<pageShift
	return s, r.err
}

// VCPUs returns the machine's virtual CPUs in order of their index.
func (m *Machine) VCPUs() iter.Seq2[*VCPU, error] {
	return func(yield func(*VCPU, error) bool) {
		for e, err := range m.vcpus() {
			v := &VCPU{m: m, Addr: e.Value, Index: int(e.Index)}
			spent := m.v.spend()
			if spent != nil {
				err = spent
			}
			if err == nil {
				err = v.read()
			}
			if !yield(v, err) || spent != nil {
				return
			}
		}
	}
}

// vcpus returns the indexes and addresses of the kvm_vcpus.
func (m *Machine) vcpus() iter.Seq2[linux.Entry, error] {
	k, f := m.v.k, &m.v.fields.machine
	if f.Array.Valid() {
		at, err := k.At(m.Addr, f.Array)
		if err != nil {
			return fail[linux.Entry](err)
		}
		return func(yield func(linux.Entry, error) bool) {
			for e, err := range k.XArray(at) {
				if err == nil && e.Index >= maxVCPUs {
					err = errors.WithMessagef(linux.ErrCorrupt, "vCPU with the index %d", e.Index)
				}
				if !yield(e, err) {
					return
				}
			}
		}
	}
	if !f.VCPUs.Valid() {
		return fail[linux.Entry](errors.New("neither vcpu_array nor vcpus"))
	}
	all, err := k.Elements(m.Addr, f.VCPUs)
	if err != nil {
		return fail[linux.Entry](err)
	}
	return func(yield func(linux.Entry, error) bool) {
		for i, at := range all {
			if at != 0 && !yield(linux.Entry{Index: uint64(i), Value: at}, nil) {
				return
			}
		}
	}
}

// A reader keeps the first error.
type reader struct {
	k   *linux.Kernel
	err error
}

func (r *reader) value(addr uint64, f linux.Field) uint64 {
	v, err := r.k.Value(addr, f)
	r.err = cmp.Or(r.err, err)
	return v
}

// optional returns a field, or 0 if the kernel does not have it or the dump
// lacks it.
func (r *reader) optional(addr uint64, f linux.Field) uint64 {
	if f.Valid() {
		if v, err := r.k.Value(addr, f); err == nil {
			return v
		}
	}
	return 0
}

// word reads a number, or the first word of a bitmap.
func (r *reader) word(addr uint64, f linux.Field) uint64 {
	if f.Count == 0 {
		return r.value(addr, f)
	}
	words, err := r.k.Elements(addr, f)
	r.err = cmp.Or(r.err, err)
	if len(words) == 0 {
		return 0
	}
	return words[0]
}
