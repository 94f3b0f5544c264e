package linux

// Panicked reports whether the kernel panicked, and on which of its processors.
func (k *Kernel) Panicked() (cpu int, ok bool, err error) {
	at, err := k.Symbol("panic_cpu")
	if err != nil {
		return 0, false, err
	}
	// PANIC_CPU_INVALID is -1.
	v, err := k.uint(at, 4)
	return int(int32(v)), err == nil && int32(v) != -1, err
}
