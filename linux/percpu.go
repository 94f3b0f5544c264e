package linux

import (
	"encoding/binary"
	"slices"

	"github.com/pkg/errors"
)

// maxCPUs is more than any kernel supports (CONFIG_NR_CPUS).
const maxCPUs = 8192

// perCPU returns how far each processor's variables are from the addresses of
// their symbols, by the processor's number: 0 for the one of a kernel without
// CONFIG_SMP. It is read once.
func (k *Kernel) perCPU() ([]uint64, error) {
	return k.cpus.get(func() ([]uint64, error) {
		at, err := k.Symbol("__per_cpu_offset")
		if errors.Is(err, ErrNoSymbol) {
			return []uint64{0}, nil
		}
		if err != nil {
			return nil, err
		}
		n := uint64(maxCPUs)
		if ids, err := k.Symbol("nr_cpu_ids"); err == nil {
			if v, err := k.uint(ids, 4); err == nil && v > 0 {
				n = min(v, maxCPUs)
			}
		}
		b := make([]byte, 8*n)
		got, err := k.Read(b, at)
		if got < 8 {
			return nil, errors.WithMessage(err, "__per_cpu_offset")
		}
		all := make([]uint64, got/8)
		for i := range all {
			all[i] = binary.LittleEndian.Uint64(b[8*i:])
		}
		return all, nil
	})
}

// CPUOf returns the number of the processor that has its variables at a GS
// base. In the kernel that is what the segment register has, in user mode
// IA32_KERNEL_GS_BASE.
func (k *Kernel) CPUOf(gsBase uint64) (int, bool) {
	all, err := k.perCPU()
	if err != nil || !isKernel(gsBase) {
		return 0, false
	}
	i := slices.Index(all, gsBase)
	return i, i >= 0
}

// Running returns the task that a processor runs.
func (k *Kernel) Running(cpu int) (Task, error) {
	all, err := k.perCPU()
	if err != nil {
		return Task{}, err
	}
	if cpu < 0 || cpu >= len(all) {
		return Task{}, errors.Errorf("the kernel has no CPU %d", cpu)
	}
	// From 6.2 to 6.14 it is the first member of struct pcpu_hot.
	at, err := k.Symbol("current_task")
	if errors.Is(err, ErrNoSymbol) {
		at, err = k.Symbol("pcpu_hot")
	}
	if err != nil {
		return Task{}, err
	}
	addr, err := k.Pointer(at + all[cpu])
	if err != nil {
		return Task{}, errors.WithMessagef(err, "the task of CPU %d", cpu)
	}
	t := k.task(addr)
	if on, err := t.CPU(); err != nil || on != cpu {
		return Task{}, corrupt("CPU %d runs the task at %#x, which is on CPU %d (%v)", cpu, addr, on, err)
	}
	return t, nil
}
