package guest

import (
	"strings"
	"testing"
)

// TestLookup finds machines by number, pid, UUID and name, in this order.
func TestLookup(t *testing.T) {
	h := &Host{Machines: []*Machine{
		{Number: 0, PID: 10, Name: "web", UUID: "ab-0"},
		{Number: 1, PID: 2, Name: "db"},
		{Number: 2, PID: 30, Name: "web"},
		{Number: 3, PID: 30, Name: "10"},
		{Number: 4},
	}}
	h.Machines[1].Nested = []*Machine{{Number: 0, Within: h.Machines[1]}}
	for _, tt := range []struct{ name, what, want string }{
		{"a number", "0", "0"},
		{"a machine's machine", "1.0", "1.0"},
		{"a number that is a pid, too", "2", "2"},
		{"a pid", "10", "0"},
		{"a pid of two machines", "30", "2 3"},
		{"a UUID", "AB-0", "0"},
		{"a name", "db", "1"},
		{"a name of two", "web", "0 2"},
		{"nobody's", "x", ""},
		{"nothing", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var ids []string
			for _, m := range h.Lookup(tt.what) {
				ids = append(ids, m.ID())
			}
			if got := strings.Join(ids, " "); got != tt.want {
				t.Errorf("%q, expected %q", got, tt.want)
			}
		})
	}
}
