package guestlist

import (
	"testing"

	"vmcsnote/guest"
	"vmcsnote/vmcs"
)

// The list and --json say that a layout was learnt, and how many fields it has.
func TestLearntLayout(t *testing.T) {
	l := &vmcs.Layout{Form: vmcs.FormLearnt, RevisionID: 0x13, AccessRights: vmcs.RightsPacked, Entries: make([]vmcs.Entry, 31)}
	h := &Host{Host: &guest.Host{Layout: l, LayoutFrom: guest.LayoutLearnt, Found: &vmcs.Result{Layout: l}}}
	const want = "a layout of 31 fields, learnt from KVM's own copies, revision identifier 0x13, access rights packed"
	if got := h.LayoutText(); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if u := h.reportLayout(h.Found, ""); u.Form != "learnt" || u.RevisionID != "0x13" {
		t.Errorf("%+v", u)
	}
}
