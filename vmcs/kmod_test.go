package vmcs

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"vmcsnote/internal/testcores"
)

// TestKernelModuleFields keeps the kernel module's list of fields what this
// package's is: with -update it writes it. High halves are left out: they lie 4
// bytes into their field.
func TestKernelModuleFields(t *testing.T) {
	const path = "../kmod/fields.h"
	var b strings.Builder
	b.WriteString("/* SPDX-License-Identifier: GPL-2.0-only */\n" +
		"/* Generated from vmcs/layouts by go test ./vmcs -run KernelModule -update. */\n")
	for _, f := range Fields() {
		if !f.High() {
			fmt.Fprintf(&b, "FIELD(%s, %s)\n", f.Encoding, f.Name)
		}
	}
	if testcores.Update() {
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != b.String() {
		t.Errorf("%s is not what vmcs/layouts gives: go test ./vmcs -run KernelModule -update", path)
	}
}
