package jsonstream

import (
	"bytes"
	"encoding/json"
	"math"
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
				var b bytes.Buffer
				if err := Write(&b, v); err != nil {
					t.Fatal(err)
				}
				var back any
				if err := json.Unmarshal(b.Bytes(), &back); err != nil {
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

type embedded struct {
	Flags string `json:"flags"`
}

// TestLikeEncodingJSON: what is UTF-8 is written as encoding/json writes it.
func TestLikeEncodingJSON(t *testing.T) {
	one := 1
	type all struct {
		Text     string `json:"text"`
		NoTag    uint32
		Left     string            `json:"left,omitempty"`
		Kept     string            `json:"kept,omitempty"`
		Zero     int               `json:"zero,omitempty"`
		False    bool              `json:"false,omitempty"`
		True     bool              `json:"true"`
		None     []int             `json:"none,omitempty"`
		Nil      []string          `json:"nil"`
		Empty    map[string]string `json:"empty"`
		Map      map[string][]string
		Pointer  *int `json:"pointer,omitempty"`
		NoWhere  *int `json:"nowhere,omitempty"`
		Any      any  `json:"any"`
		Nothing  any
		Inner    struct{} `json:"inner,omitempty"`
		Skipped  int      `json:"-"`
		Small    int8     `json:"small"`
		Big      uint64   `json:"big"`
		Negative int64    `json:"negative"`
		private  int
		*embedded
	}
	var ascii []byte
	for c := range byte(0x80) {
		ascii = append(ascii, c)
	}
	v := all{Text: string(ascii) + "é\u2028\u2029\u202e😀\ufffd", Kept: "x", Map: map[string][]string{"b": {"<&>"}, "a": {}, "\x01": nil},
		Empty: map[string]string{}, Pointer: &one, Any: []any{1, "two", nil, true}, Small: -128, Big: math.MaxUint64, Negative: math.MinInt64, private: 1}
	for name, v := range map[string]any{"without": v, "with an embedded struct": func() all { v.embedded = &embedded{"0x1"}; return v }(), "nil": nil, "text": "a"} {
		want, err := json.MarshalIndent(v, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		var got bytes.Buffer
		if err := Write(&got, v); err != nil || got.String() != string(want)+"\n" {
			t.Errorf("%s: %v\n%s\nexpected\n%s", name, err, &got, want)
		}
	}
}
