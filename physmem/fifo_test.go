package physmem

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/pkg/errors"
	"golang.org/x/sys/unix"

	"vmcsnote/internal/inputfile"
)

// TestFIFO: a FIFO in the place of a device is an error. To open one would wait
// for a writer.
func TestFIFO(t *testing.T) {
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "proc"), 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(root, "proc/iomem")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := open(path); !errors.Is(err, inputfile.ErrFIFO) {
		t.Errorf("a device: %v", err)
	}
	if _, err := placeLoads(nil, root); !errors.Is(err, ErrNoPaddr) {
		t.Errorf("/proc/iomem: %v", err)
	}
}
