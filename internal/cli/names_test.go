package cli_test

import (
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

// namedValue is a line of guests -v with a field's or register's name.
var namedValue = regexp.MustCompile(`(?m)^    ([A-Z][A-Z0-9_]*|[a-z]+\.[a-z0-9_.]+) +(0x[0-9a-f]+|\?)`)

// everyName ends the script unless guests --field takes every name that the
// other forms of output have, and says what -v says.
func everyName(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 1, 1)
	output := func(args ...string) string {
		ts.Check(ts.Exec("vmcsnote", args...))
		return ts.ReadFile("stdout")
	}
	only := []string{args[0], "--guest", "0", "--vcpu", "0"}
	values := map[string]string{}
	for _, m := range namedValue.FindAllStringSubmatch(output(append([]string{"guests", "-v"}, only...)...), -1) {
		values[m[1]] = m[2]
	}
	if len(values) < 100 {
		ts.Fatalf("found %d names in the output of -v", len(values))
	}
	names := slices.Sorted(maps.Keys(values))
	got := strings.Fields(output(append([]string{"guests", "--field", strings.Join(names, ",")}, only...)...))
	if len(got) != len(names) {
		ts.Fatalf("--field printed %d values for %d names", len(got), len(names))
	}
	for i, n := range names {
		if got[i] != values[n] {
			ts.Fatalf("--field %s: %s, expected %s as -v prints", n, got[i], values[n])
		}
	}
	var doc struct {
		Guests []struct {
			VCPUs []struct {
				Fields    map[string]string
				Registers map[string]any
				Segments  []struct{ Name string }
			}
		}
	}
	ts.Check(json.Unmarshal([]byte(output(append([]string{"guests", "--json"}, only...)...)), &doc))
	v := doc.Guests[0].VCPUs[0]
	names = append(slices.Sorted(maps.Keys(v.Fields)), slices.Sorted(maps.Keys(v.Registers))...)
	for _, s := range v.Segments {
		names = append(names, s.Name)
	}
	if len(v.Segments) == 0 || len(v.Registers) == 0 {
		ts.Fatalf("found %d segments and %d registers", len(v.Segments), len(v.Registers))
	}
	output(append([]string{"guests", "--field", strings.Join(names, ",")}, only...)...)
	// The list's headings, but for the two that are words.
	_, list, _ := strings.Cut(output("guests", args[0]), "\nguest ")
	heads, _, _ := strings.Cut("guest "+list, "last exit")
	heads = strings.Join(strings.Fields(strings.Replace(heads, "mode", "", 1)), ",")
	output(append([]string{"guests", "--field", heads}, only...)...)
}
