package cli

import (
	"os"
	"testing"

	"vmcsnote/guest"
)

// TestSearching: on a terminal the progress follows the search from the host into
// a guest and, with --explain, back to the host.
func TestSearching(t *testing.T) {
	terminal, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skip("no terminal: ", err)
	}
	defer terminal.Close()
	m := &guest.Machine{}
	show := (&env{stderr: terminal}).searching()
	for _, in := range []*guest.Machine{nil, m, nil} {
		show(in, 1, 2)
	}
}
