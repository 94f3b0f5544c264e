package vmcs

import (
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"strings"
	"testing"
)

// The constants are the fields of the tables, no more and no fewer, and are
// called what the fields are called.
func TestEncodings(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "encodings.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	consts := make(map[Encoding]string)
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok {
			e, err := strconv.ParseUint(spec.Values[0].(*ast.BasicLit).Value, 0, 16)
			if err != nil || consts[Encoding(e)] != "" {
				t.Errorf("%s: %#x, %v", spec.Names[0], e, err)
			}
			consts[Encoding(e)] = spec.Names[0].Name
		}
		return true
	})
	n := 0
	for _, f := range Fields() {
		if f.High() {
			continue
		}
		n++
		if name := consts[f.Encoding]; strings.ToUpper(name) != strings.ReplaceAll(f.Name, "_", "") {
			t.Errorf("%v is called %q, the field %s", f.Encoding, name, f.Name)
		}
	}
	if n != len(consts) || HostCR3 != 0x6c02 {
		t.Errorf("%d constants, %d fields", len(consts), n)
	}
}
