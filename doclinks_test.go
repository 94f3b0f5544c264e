// SPDX-License-Identifier: Apache-2.0

package main

import (
	"go/ast"
	"go/build"
	"go/doc"
	"go/doc/comment"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// public are the packages that other programs may import.
var public = []string{
	"elfnote", "guest", "guest/inside", "guest/qemucore", "linux", "physmem", "record", "svm", "sysfs", "vmcore", "vmcs",
}

var (
	// deadLink is a link that go doc left as it is written.
	deadLink = regexp.MustCompile(`\[\*?(?:[a-z0-9/]+\.)?[A-Z]\w*(?:\.\w+)?\]`)
	goFile   = regexp.MustCompile(`\b\w+\.go\b`)
)

// docComplaints returns what is wrong with the doc comments of a package, which
// parser knows the names of: links that lead nowhere, and names of files.
func docComplaints(p *comment.Parser, of, text string, exists func(path, name string) bool) (bad []string) {
	walk := func(t comment.Text) {
		switch t := t.(type) {
		case comment.Plain:
			for _, re := range []*regexp.Regexp{deadLink, goFile} {
				for _, found := range re.FindAllString(string(t), -1) {
					bad = append(bad, of+": "+found)
				}
			}
		case *comment.DocLink:
			name := strings.TrimPrefix(t.Recv+"."+t.Name, ".")
			if t.ImportPath != "" && !exists(t.ImportPath, name) {
				bad = append(bad, of+": ["+t.ImportPath+"."+name+"]")
			}
		}
	}
	var blocks func(bs []comment.Block)
	texts := func(ts []comment.Text) {
		for _, t := range ts {
			walk(t)
		}
	}
	blocks = func(bs []comment.Block) {
		for _, b := range bs {
			switch b := b.(type) {
			case *comment.Paragraph:
				texts(b.Text)
			case *comment.Heading:
				texts(b.Text)
			case *comment.List:
				for _, item := range b.Items {
					blocks(item.Content)
				}
			}
		}
	}
	blocks(p.Parse(text).Content)
	return bad
}

// loadDocs returns the documentation of a package of this module.
func loadDocs(t *testing.T, dir string) *doc.Package {
	t.Helper()
	found, err := build.ImportDir(dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	fset := token.NewFileSet()
	var files []*ast.File
	for _, name := range found.GoFiles {
		f, err := parser.ParseFile(fset, filepath.Join(dir, name), nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	d, err := doc.NewFromFiles(fset, files, module+"/"+dir)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// comments returns the doc comments of what a package exports, by name.
func comments(d *doc.Package) map[string]string {
	all := map[string]string{"package": d.Doc}
	values := func(vs []*doc.Value) {
		for _, v := range vs {
			for _, name := range v.Names {
				all[name] = v.Doc
			}
		}
	}
	funcs := func(prefix string, fs []*doc.Func) {
		for _, f := range fs {
			all[prefix+f.Name] = f.Doc
		}
	}
	values(d.Consts)
	values(d.Vars)
	funcs("", d.Funcs)
	for _, typ := range d.Types {
		all[typ.Name] = typ.Doc
		values(typ.Consts)
		values(typ.Vars)
		funcs("", typ.Funcs)
		funcs(typ.Name+".", typ.Methods)
	}
	return all
}

// inner returns the comments within what a package exports: of constants,
// variables and fields. go doc shows them as they are, without links.
func inner(d *doc.Package) (texts []string) {
	look := func(n ast.Node) bool {
		var groups []*ast.CommentGroup
		switch n := n.(type) {
		case *ast.ValueSpec:
			groups = []*ast.CommentGroup{n.Doc, n.Comment}
		case *ast.Field:
			groups = []*ast.CommentGroup{n.Doc, n.Comment}
		}
		for _, g := range groups {
			texts = append(texts, g.Text())
		}
		return true
	}
	values := slices.Concat(d.Consts, d.Vars)
	for _, typ := range d.Types {
		ast.Inspect(typ.Decl, look)
		values = slices.Concat(values, typ.Consts, typ.Vars)
	}
	for _, v := range values {
		ast.Inspect(v.Decl, look)
	}
	return texts
}

// TestDocLinks: every [Name] in the documentation of a public package leads
// somewhere, and none of it sends readers to a source file.
func TestDocLinks(t *testing.T) {
	names := map[string]map[string]string{}
	docs := map[string]*doc.Package{}
	for _, dir := range public {
		docs[dir] = loadDocs(t, dir)
		names[module+"/"+dir] = comments(docs[dir])
	}
	exists := func(path, name string) bool {
		of, ours := names[path]
		_, ok := of[name]
		return !ours || name == "" || ok
	}
	for dir, d := range docs {
		for name, text := range names[module+"/"+dir] {
			for _, bad := range docComplaints(d.Parser(), dir+"."+name, text, exists) {
				t.Error(bad)
			}
		}
		for _, text := range inner(d) {
			if file := goFile.FindString(text); file != "" {
				t.Errorf("%s: %s: %q", dir, file, text)
			}
		}
	}
}

// TestDocLinksFaults shows what TestDocLinks notices.
func TestDocLinksFaults(t *testing.T) {
	p := docParser()
	for name, c := range map[string]struct{ text, want string }{
		"sound":                     {"See [There], and [other.Thing].", ""},
		"a name that is not there":  {"See [Gone].", "x: [Gone]"},
		"in a list":                 {"Two things:\n\n  - one, by [Gone.Method]\n  - two\n", "x: [Gone.Method]"},
		"not in the other package":  {"See [other.Gone].", "x: [vmcsnote/other.Gone]"},
		"the name of a source file": {"The rules are in rules.go.", "x: rules.go"},
	} {
		t.Run(name, func(t *testing.T) {
			bad := docComplaints(p, "x", c.text, func(_, name string) bool { return name == "Thing" })
			if got := strings.Join(bad, "; "); got != c.want {
				t.Errorf("found %q, expected %q", got, c.want)
			}
		})
	}
}

// docParser returns a parser for a package that has There and imports other.
func docParser() *comment.Parser {
	return &comment.Parser{
		LookupSym:     func(recv, name string) bool { return recv == "" && name == "There" },
		LookupPackage: func(name string) (string, bool) { return module + "/other", name == "other" },
	}
}
