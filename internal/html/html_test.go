package html

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// hostile are texts that would be markup, or deceive, if they were not escaped.
var hostile = []string{
	"<script>alert(1)</script>", "</style><script>", `" onload="x`, `' onload='x`, "&lt;script&gt;", "<!--", "]]>", "</title>",
	"\x00\x1b[2J\x7f", "\u202egnp.exe", "\ufeff", "\xff<\xc0\xbc", "a & b", "\u2028", "`${x}`",
}

// Whatever the text is, the page has the elements and attributes of the program
// alone, and reading it returns the text.
func TestNothingBecomesMarkup(t *testing.T) {
	for _, text := range hostile {
		page := write(t, text)
		plain := write(t, "x")
		for _, c := range "<>\"'" {
			if got, want := strings.Count(page, string(c)), strings.Count(plain, string(c)); got != want {
				t.Errorf("%q: %d times %q, expected %d:\n%s", text, got, c, want, page)
			}
		}
		for _, r := range page {
			if r < ' ' && r != '\n' || r >= 0x7f && r < 0xa0 || strings.ContainsRune("\u202e\ufeff\u2028\ufffd", r) {
				t.Errorf("%q: %q is in the page", text, r)
			}
		}
	}
}

func write(t *testing.T, text string) string {
	var b strings.Builder
	w := New(&b, text, "p {}\n")
	w.Block("section", func() {
		w.Element("p", text, A("title", text))
		w.Element("a", text, Link(text))
		w.void("br", A("class", text))
		w.Text(text)
	}, A("class", text))
	if err := w.End(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestPage(t *testing.T) {
	const want = `<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8"/>
<meta http-equiv="Content-Security-Policy" content="default-src &#39;none&#39;; style-src &#39;unsafe-inline&#39;; base-uri &#39;none&#39;; form-action &#39;none&#39;"/>
<meta name="viewport" content="width=device-width, initial-scale=1"/>
<meta name="color-scheme" content="light dark"/>
<title>a &amp; b</title>
<style>
p {}
</style>
</head>
<body>
<section class="a &amp; b"><p title="a &amp; b">a &amp; b</p>
<a href="#a &amp; b">a &amp; b</a><br class="a &amp; b"/>
a &amp; b</section>
</body>
</html>
`
	if got := write(t, "a & b"); got != want {
		t.Errorf("got\n%s", got)
	}
}

// A style sheet cannot end its element.
func TestStyleSheet(t *testing.T) {
	var b strings.Builder
	if err := New(&b, "x", "</style><script>").End(); err == nil || strings.Contains(b.String(), "script>") {
		t.Errorf("%v\n%s", err, &b)
	}
}

// TestOneWayIn: only html.go writes raw markup, and there whatever varies
// goes through escape. The names of elements and attributes are constants:
// those of other packages by the compiler, because constant is not exported.
func TestOneWayIn(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil || len(files) < 2 {
		t.Fatal(files, err)
	}
	calls := 0
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		src, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(src), ".WriteString("); name == "html.go" && n != 1 || name != "html.go" && n != 0 {
			t.Errorf("%s writes in %d places", name, n)
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, src, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			if f, ok := call.Fun.(*ast.SelectorExpr); ok && f.Sel.Name == "raw" {
				calls++
				if !safe(call.Args[0]) {
					t.Errorf("%s: raw(%s) at byte %d", name, src[call.Args[0].Pos()-1:call.Args[0].End()-1], call.Pos())
				}
			}
			return true
		})
	}
	if calls < 5 {
		t.Errorf("%d calls of raw were found", calls)
	}
}

// safe reports whether an expression is made of constants, of values of the
// type constant, and of what escape returns. css is checked by New.
func safe(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.BasicLit:
		return true
	case *ast.BinaryExpr:
		return safe(e.X) && safe(e.Y)
	case *ast.Ident:
		return e.Name == "css"
	case *ast.CallExpr:
		f, ok := e.Fun.(*ast.Ident)
		if !ok || len(e.Args) != 1 {
			return false
		}
		switch arg := e.Args[0].(type) {
		case *ast.Ident:
			return f.Name == "escape" || f.Name == "string" && (arg.Name == "tag" || arg.Name == "end")
		case *ast.SelectorExpr:
			return f.Name == "escape" || f.Name == "string" && arg.Sel.Name == "name"
		}
	}
	return false
}
