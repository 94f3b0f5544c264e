# Debian's kdump-tools with our .deb under systemd: the dump that it saves has the note, and compressed, too.
# shellcheck shell=bash disable=SC2034,SC2154
drive() {
	"$crashkit/kdump-tools" "$r" && "$crashkit/kdump-tools" "$r/gzip" KDUMP_COMPRESSION=gzip
}

check() {
	local d z n
	d=$(echo "$r"/crash/2*/dump.2*)
	z=$(echo "$r"/gzip/crash/2*/dump.2*.gz)
	ok 'as kdump-tools names it' [ -f "$d" ]
	ok 'compressed: as kdump-tools names it' gzip -dk "$z"
	ok 'compressed: armed and recorded' fails 1 grep FAIL "$r/gzip/out/first/results"
	for n in "$d" "${z%.gz}"; do
		ok "${n##*/}: verify" vmcsnote verify --deep "$n"
		ok "${n##*/}: makedumpfile -R" plain "$n"
		ok "${n##*/}: crash bt" bt "$n"
	done
	kdump "$d.plain"
	ok 'the note of the boot that crashed' saysNote "$d"
	ok 'compressed: the note' cmp <(vmcsnote show --note VMCSINFO "${z%.gz}") <(r=$r/gzip truth)
	ok 'nothing incomplete is left' fails 2 ls "$r"/crash/2*/*incomplete*
	ok "the kernel's log is beside it" grep -q 'sysrq: Trigger a crash' "$r"/crash/2*/dmesg.2*
}
