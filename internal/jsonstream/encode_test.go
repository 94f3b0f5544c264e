package jsonstream

import (
	"encoding/json"
	"testing"
)

// TestEncode: names that are no UTF-8 are told apart, wherever they stand;
// all others are as they are.
func TestEncode(t *testing.T) {
	seen := map[string]string{}
	for _, tt := range []struct{ name, text, want string }{
		{"plain", "vmcore", "vmcore"},
		{"letters", "дамп", "дамп"},
		{"a backslash", `a\xff`, `a\xff`},
		{"a byte", "a\xff", `�a\xff`},
		{"another byte", "a\xfe", `�a\xfe`},
		{"a byte, and a backslash", "\\\xff", `�\\\xff`},
		{"half a character", "\xd0", `�\xd0`},
		{"the replacement in front", "�a", "��a"},
		{"what a byte becomes", `�a\xff`, `��a\\xff`},
		{"the replacement elsewhere", "a�", "a�"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			type inner struct{ Names []string }
			for place, v := range map[string]any{
				"struct":  struct{ A string }{tt.text},
				"list":    []any{&inner{[]string{tt.text}}},
				"map":     map[string]string{tt.text: tt.text},
				"pointer": &inner{[]string{tt.text}},
			} {
				b, err := encode(v)
				if err != nil {
					t.Fatal(err)
				}
				var back any
				if err := json.Unmarshal(b, &back); err != nil {
					t.Fatal(err)
				}
				for _, got := range stringsIn(back) {
					if got != tt.want && got != "A" && got != "Names" {
						t.Errorf("%s: %q, expected %q", place, got, tt.want)
					}
				}
			}
			if was, there := seen[tt.want]; there {
				t.Errorf("%q and %q are the same", was, tt.text)
			}
			seen[tt.want] = tt.text
		})
	}
}

// stringsIn lists the strings in a document, keys too.
func stringsIn(v any) (all []string) {
	switch v := v.(type) {
	case string:
		return []string{v}
	case []any:
		for _, x := range v {
			all = append(all, stringsIn(x)...)
		}
	case map[string]any:
		for k, x := range v {
			all = append(append(all, k), stringsIn(x)...)
		}
	}
	return all
}
