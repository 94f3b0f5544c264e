package guest

import (
	"strconv"
	"strings"
)

// Lookup returns the machines that what names: the one with that ID, otherwise
// those of the process with that pid, otherwise those with that UUID or name.
// Owners choose the names, so several machines can have the same one.
func (h *Host) Lookup(what string) (found []*Machine) {
	if m := h.Machine(what); m != nil {
		return []*Machine{m}
	}
	for _, is := range []func(m *Machine) bool{
		func(m *Machine) bool { return m.PID != 0 && strconv.Itoa(m.PID) == what },
		func(m *Machine) bool { return m.UUID != "" && strings.EqualFold(m.UUID, what) },
		func(m *Machine) bool { return m.Name != "" && m.Name == what },
	} {
		for m := range h.All() {
			if is(m) {
				found = append(found, m)
			}
		}
		if found != nil {
			break
		}
	}
	return found
}
