package guestlist

// What guests --json prints. Names are fixed, and doc/guests.md explains them:
// addresses and what registers and fields hold are strings with 0x, counts and
// sizes numbers. The document as a whole is never in memory: see writeJSON.

// A usedLayout says by which layout the VMCSs were found.
type usedLayout struct {
	From         string   `json:"from"` // for people
	Name         string   `json:"name,omitempty"`
	Form         string   `json:"form,omitempty"` // cells, offsets, records, directory, builtin, saved, learnt
	RevisionID   string   `json:"revision_id,omitempty"`
	AccessRights string   `json:"access_rights,omitempty"`
	Warnings     []string `json:"warnings,omitempty"`
	// Ambiguous are built-in layouts that fit as well.
	Ambiguous []string `json:"ambiguous,omitempty"`
	// Trials are the layouts that were tried, the one taken first.
	Trials []trialReport `json:"trials,omitempty"`
}

type trialReport struct {
	Name       string `json:"name"` // empty for that of a note
	RevisionID string `json:"revision_id"`
	Pages      int    `json:"pages"` // that begin with it
	Live       int    `json:"live"`
	Stale      int    `json:"stale"`
	Score      int    `json:"score"`
}

// A searchReport says what was looked through.
type searchReport struct {
	Pages   uint64 `json:"pages"`   // looked at
	Matched uint64 `json:"matched"` // that began with a revision identifier looked for
	Lost    uint64 `json:"lost"`    // that could not be read
	Error   string `json:"error,omitempty"`
	Dropped int    `json:"dropped"` // VMCSs that are one too many
	// Strangers are revision identifiers of no layout, of pages that look like
	// VMCSs.
	Strangers []strangerReport `json:"strangers,omitempty"`
}

type strangerReport struct {
	RevisionID string `json:"revision_id"`
	Pages      int    `json:"pages"`
}

// A tallyReport counts a guest's memory, in bytes.
type tallyReport struct {
	EPT        uint64 `json:"ept"`
	Process    uint64 `json:"process"`
	Swapped    uint64 `json:"swapped"`
	MMIO       uint64 `json:"mmio"`
	Tables     uint64 `json:"tables"`
	Incomplete bool   `json:"incomplete,omitempty"`
}

type slotReport struct {
	GPA   string `json:"gpa"`
	HVA   string `json:"hva"`
	Size  uint64 `json:"size"`
	Pages uint64 `json:"verified_pages"` // of 4 KiB, mapped alike by EPT and the process
	*kvmSlotReport
}

// A kvmSlotReport is what KVM's own slots have besides.
type kvmSlotReport struct {
	ID    int    `json:"id"`
	Space int    `json:"space"` // 1: that of system management mode
	Flags string `json:"flags"`
}

// A disagreementReport is where KVM's structures and the search for VMCSs tell
// different things.
type disagreementReport struct {
	Guest string `json:"guest,omitempty"`
	VCPU  *int   `json:"vcpu,omitempty"`
	What  string `json:"what"`
	KVM   string `json:"kvm"`
	VMCS  string `json:"vmcs"`
}

type vcpuReport struct {
	ID      int    `json:"id"`
	VMCS    string `json:"vmcs"`               // "" on AMD's processors, and if it is unknown
	VMCB    string `json:"vmcb,omitempty"`     // on AMD's
	TID     int    `json:"tid,omitempty"`      // the thread that ran it last
	Thread  string `json:"thread,omitempty"`   // its name
	HostCPU *int   `json:"host_cpu,omitempty"` // on which it ran last
	State   string `json:"state,omitempty"`
	Verdict string `json:"verdict"` // live, stale, shadow, rejected; "" without a VMCS
	Stale   bool   `json:"stale"`
	Score   int    `json:"score"`
	VPID    uint16 `json:"vpid"` // 0: VPIDs are not enabled
	Mode    string `json:"mode"`
	// Task and TaskPID are of the guest's thread that it ran; Symbol is where
	// RIP is, Backtrace the guest kernel's functions on the stack.
	Task      *string       `json:"task,omitempty"`
	TaskPID   *int          `json:"task_pid,omitempty"`
	Symbol    string        `json:"symbol,omitempty"`
	Backtrace []frameReport `json:"backtrace,omitempty"`
	// Emulated: the processor runs the guest in another mode than it believes
	// in.
	Emulated bool   `json:"mode_emulated,omitempty"`
	Abort    uint32 `json:"abort,omitempty"` // VMX-abort indicator
	// ExitReason is VM_EXIT_REASON in words.
	ExitReason string `json:"exit_reason"`
	// Fields are all that the layout has, as VMREAD returns them.
	Fields map[string]string `json:"fields"`
	// Bits name the bits set in fields of single bits.
	Bits map[string][]string `json:"bits,omitempty"`
	// Texts put other fields into words.
	Texts    map[string]string `json:"texts,omitempty"`
	Segments []segmentReport   `json:"segments,omitempty"`
	// Registers are the guest's as it sees them, and where each was found.
	Registers map[string]registerReport `json:"registers,omitempty"`
	Evidence  *evidenceReport           `json:"evidence,omitempty"`
	Checks    []checkReport             `json:"checks,omitempty"`
}

type segmentReport struct {
	Name     string `json:"name"`
	Selector string `json:"selector"`
	Base     string `json:"base"`
	Limit    string `json:"limit"`
	Rights   string `json:"rights"`
	Text     string `json:"text"` // the rights in words
}

type registerReport struct {
	Value string `json:"value,omitempty"` // none where it is unknown
	From  string `json:"from"`
}

// An evidenceReport says how KVM's structure of the vCPU was found.
type evidenceReport struct {
	Held     string `json:"held"`
	Array    string `json:"array"`
	Pointers int    `json:"pointers"`
	Words    int    `json:"words"`
}

type checkReport struct {
	Name   string `json:"name"`
	Value  string `json:"value"`
	Want   string `json:"want"`
	Answer string `json:"answer"`
	Weight int    `json:"weight"`
}
