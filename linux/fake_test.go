package linux

import (
	"testing"

	"vmcsnote/internal/fakelinux"
	"vmcsnote/physmem"
)

const (
	fakeImage  = fakelinux.ImageAddr
	fakeDirect = fakelinux.Direct
)

// openFake opens a kernel made by hand, once it is finished.
func openFake(t testing.TB, mem physmem.Reader, info string) *Kernel {
	t.Helper()
	k, err := Open(mem, info)
	if err != nil {
		t.Fatal(err)
	}
	return k
}
