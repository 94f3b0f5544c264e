package vmcs

import (
	"os/exec"
	"path/filepath"
	"testing"

	"vmcsnote/internal/testcores"
)

// TestKernelModuleLocates runs the kernel module's experiments on models of
// processors, in user space: see kmod/locate_test.c.
func TestKernelModuleLocates(t *testing.T) {
	cc := testcores.Tool(t, "cc")
	program := filepath.Join(t.TempDir(), "locate_test")
	for _, args := range [][]string{{cc, "-O", "-Wall", "-Werror", "-o", program, "../kmod/locate_test.c"}, {program}} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
}
