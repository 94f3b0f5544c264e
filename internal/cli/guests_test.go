package cli

import (
	"os"
	"strings"
	"testing"

	"vmcsnote/guest"
	"vmcsnote/internal/cli/internal/guestlist"
	"vmcsnote/internal/cli/internal/message"
)

// TestSearching: on a terminal the progress follows the search from the host
// into a guest and, with --explain, back to the host.
func TestSearching(t *testing.T) {
	terminal, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skip("no terminal: ", err)
	}
	defer terminal.Close()
	m := &guest.Machine{}
	show := (&env{Printer: &message.Printer{Stderr: terminal}}).searching()
	for _, in := range []*guest.Machine{nil, m, nil} {
		show(in, 1, 2)
	}
}

// TestNamesakes: an error about a name of a thousand machines can be read.
func TestNamesakes(t *testing.T) {
	h := &guestlist.Host{Host: new(guest.Host)}
	for i := range 1000 {
		h.Machines = append(h.Machines, &guest.Machine{Number: i, Name: "firecracker", PID: 5000 + i})
	}
	_, err := machine(h, "firecracker")
	if err == nil || !strings.HasSuffix(err.Error(), "7 (firecracker, pid 5007), and 992 more") || len(err.Error()) > 500 {
		t.Errorf("%v", err)
	}
}
