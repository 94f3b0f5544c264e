// Package html writes HTML pages in which no value can become markup.
//
// Names of elements and attributes are constants of the program: the type of
// these parameters accepts nothing else. One function escapes every value. A
// page forbids scripts and the network, so a browser would not obey even markup
// that had slipped through.
//
// html/template does more, and would add 2.0 MB to a program of 6.1 MB (1.5 MB
// of which text/template, Go 1.26): it calls methods by name, so the linker
// must keep all that are exported.
package html

import (
	"bufio"
	"io"
	"strings"

	"github.com/pkg/errors"

	"vmcsnote/internal/visible"
)

// constant is a string that other packages can only make from a constant.
type constant string

// An Attr is an attribute of an element.
type Attr struct {
	name  constant
	value string
}

// A returns an attribute. Its name must be a constant that takes text: not one
// whose value is a script, a style or an address that is followed (see [Link]).
func A(name constant, value string) Attr { return Attr{name, value} }

// Link returns the attribute that makes an element a link to the one in the
// same page that has the id.
func Link(id string) Attr { return Attr{"href", "#" + id} }

// A Writer writes a page. It keeps its first error, for End.
type Writer struct {
	w   *bufio.Writer
	err error
}

// csp forbids scripts, frames, forms and everything out of the network.
const csp = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"

// New begins a page with a title and a style sheet.
func New(out io.Writer, title, css string) *Writer {
	w := &Writer{w: bufio.NewWriter(out)}
	if strings.Contains(css, "<") {
		w.err = errors.New("a style sheet with a <, which could end it")
		css = ""
	}
	w.raw("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n")
	w.void("meta", A("http-equiv", "Content-Security-Policy"), A("content", csp))
	w.void("meta", A("name", "viewport"), A("content", "width=device-width, initial-scale=1"))
	w.void("meta", A("name", "color-scheme"), A("content", "light dark"))
	w.Element("title", title)
	w.raw("<style>\n")
	w.raw(css)
	w.raw("</style>\n</head>\n<body>\n")
	return w
}

// End ends the page.
func (w *Writer) End() error {
	w.raw("</body>\n</html>\n")
	if err := w.w.Flush(); w.err == nil {
		w.err = err
	}
	return w.err
}

// Block writes an element with what f writes in it.
func (w *Writer) Block(tag constant, f func(), attrs ...Attr) {
	w.begin(tag, attrs, ">")
	f()
	w.end(tag)
}

// Element writes an element with a text in it.
func (w *Writer) Element(tag constant, text string, attrs ...Attr) {
	w.begin(tag, attrs, ">")
	w.Text(text)
	w.end(tag)
}

// void writes an element that has no end tag. The page is well-formed XML, too.
func (w *Writer) void(tag constant, attrs ...Attr) {
	w.begin(tag, attrs, "/>\n")
}

// Text writes text. What a reader would not see is escaped as package visible
// does.
func (w *Writer) Text(text string) { w.raw(escape(text)) }

func (w *Writer) begin(tag constant, attrs []Attr, end constant) {
	w.raw("<" + string(tag))
	for _, a := range attrs {
		w.raw(" " + string(a.name) + `="` + escape(a.value) + `"`)
	}
	w.raw(string(end))
}

func (w *Writer) end(tag constant) {
	w.raw("</" + string(tag) + ">")
	switch tag {
	case "span", "a", "code", "b": // space after these shows
	default:
		w.raw("\n")
	}
}

// raw writes markup. Its callers pass constants and what escape returned.
func (w *Writer) raw(markup string) { w.w.WriteString(markup) }

var escaper = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;", "'", "&#39;")

// escape returns text that is no markup, in an element and in an attribute's
// quotes.
func escape(text string) string { return escaper.Replace(visible.Text(text, "\n\t")) }
