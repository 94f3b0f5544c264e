package guestlist

import (
	"context"
	"debug/elf"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"vmcsnote/guest"
	"vmcsnote/internal/cli/internal/message"
	"vmcsnote/internal/report"
	"vmcsnote/linux"
	"vmcsnote/vmcore"
)

// Bounds on what a page has: a browser must show it, and a dump can have any
// number of things.
const (
	maxPageMachines = 1000
	maxPageVCPUs    = 256
	maxPageNotes    = 200
	hostLogLines    = 80
	guestLogLines   = 20
)

// NewPage begins a page about the dump at path, with all but its machines.
func NewPage(c vmcore.Core, path string) *report.Page {
	p := &report.Page{Title: filepath.Base(path), Subtitle: fmt.Sprintf("Dump %s (%s)", path, c.Format())}
	p.Notes = pageNotes(c)
	pageChecks(p, c)
	pageHost(p, c)
	return p
}

// AddMachines adds the host's machines to the page. vCPUs are put into words
// when the page is written.
func (h *Host) AddMachines(ctx context.Context, p *report.Page) error {
	p.Remarks = append(p.Remarks, h.remarks()...)
	if len(h.Machines) == 0 {
		p.NoMachines = "No virtual machine: " + h.NoneText() + "."
	}
	more := 0
	for m := range h.All() {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if len(p.Machines) == maxPageMachines {
			more++
			continue
		}
		p.Machines = append(p.Machines, pageMachine(m))
	}
	if more > 0 {
		p.Remarks = append(p.Remarks, fmt.Sprintf("%s not shown here: vmcsnote guests lists them", message.Plural(more, "more machine")))
	}
	return nil
}

// pageNotes lists the dump's notes.
func pageNotes(c vmcore.Core) (all []report.Note) {
	notes := c.Notes().Notes
	for i, n := range notes {
		if i == maxPageNotes {
			return append(all, report.Note{Name: fmt.Sprintf("and %d more", len(notes)-i)})
		}
		all = append(all, report.Note{Name: n.Name, Size: message.Plural(int(n.DescSize), "byte"), What: message.NoteKind(n.Name, n.Type)})
	}
	return all
}

// pageChecks adds what verify finds.
func pageChecks(p *report.Page, c vmcore.Core) {
	p.Verified = "ok"
	for i, f := range c.Verify() {
		if !f.Remark {
			p.Verified = "not ok"
		}
		if i < maxPageNotes {
			p.Findings = append(p.Findings, report.Finding{Fault: !f.Remark, Text: f.Text, Readers: f.Readers})
		}
	}
}

// pageHost adds what the host's kernel tells about itself.
func pageHost(p *report.Page, c vmcore.Core) {
	info := guest.VMCoreInfo(c)
	add := func(name, value string) { p.Host = append(p.Host, report.Fact{Name: name, Value: value}) }
	add("Kernel", guest.InfoLine(info, "OSRELEASE"))
	at, noTime := strconv.ParseInt(guest.InfoLine(info, "CRASHTIME"), 10, 64)
	if noTime == nil {
		add("Time of the crash", time.Unix(at, 0).UTC().Format(dateTime))
	}
	cpus := 0
	for _, n := range c.Notes().Notes {
		if n.Name == "CORE" && n.Type == uint32(elf.NT_PRSTATUS) {
			cpus++
		}
	}
	k, err := linux.Open(c, info)
	if err != nil {
		p.Log.Missing = "No log: " + err.Error()
		if info == "" {
			p.Log.Missing = "No log: the dump has no VMCOREINFO, which leads to it."
		}
		return
	}
	if uts, err := k.UTS(); err == nil && uts.Hostname != "" && uts.Hostname != unnamed {
		add("Host name", uts.Hostname)
		p.Title = uts.Hostname
	}
	if now, up, err := k.Clock(); err == nil {
		if noTime != nil {
			add("Time of the dump", now.Format(dateTime)+", by its own clock")
		}
		add("Up", upText(up))
	}
	if cpu, err := k.CPU(); err == nil {
		text := strings.TrimSpace(cpu.Name)
		if cpus > 0 {
			text = fmt.Sprintf("%d × %s", cpus, text)
		}
		if cpu.Microcode != 0 {
			text += fmt.Sprintf(", microcode %#x", cpu.Microcode)
		}
		add("Processors", text)
	} else if cpus > 0 {
		add("Processors", strconv.Itoa(cpus))
	}
	add("Build ID", k.BuildID())
	if last, err := k.Panic(); err == nil {
		p.Alert = panicLine(last)
	}
	if _, panicked, err := k.Panicked(); err == nil && !panicked && p.Alert == "" {
		add("Panic", "none: the dump was taken of a running kernel")
	}
	p.Log = pageLog(k, hostLogLines)
}

// unnamed is a kernel's host name until somebody sets another.
const unnamed = "(none)"

// panicLine tells why a kernel crashed.
func panicLine(p linux.Panic) string {
	switch {
	case p.Message == "":
		return p.Cause
	case p.Cause == "" || strings.Contains(p.Cause, p.Message):
		return "Kernel panic: " + p.Message
	}
	return fmt.Sprintf("Kernel panic: %s (%s)", p.Message, p.Cause)
}

// upText prints a time since boot.
func upText(up time.Duration) string {
	text := up.Truncate(time.Second).String()
	if days := int(up / (24 * time.Hour)); days > 0 {
		text = message.Plural(days, "day") + " " + (up % (24 * time.Hour)).Truncate(time.Second).String()
	}
	return text
}

// pageLog returns the end of a kernel's log.
func pageLog(k *linux.Kernel, lines int) (l report.Log) {
	last, err := k.LastLog(lines)
	for _, r := range last {
		l.Lines = append(l.Lines, report.Line{Level: r.Level, Text: r.String()})
	}
	switch {
	case err != nil && len(last) == 0:
		l.Missing = fmt.Sprintf("No log: %v.", err)
	case err != nil:
		l.Missing = fmt.Sprintf("Some of it could not be read: %v.", err)
	}
	return l
}
