# shellcheck shell=bash
# Waiting for a virtual machine as long as it makes progress: a busy computer
# makes it slow, which no clock on the wall can tell from one that hangs.

# cpuTime PID: prints the processor time that a process has used, in the 1/100 s
# that /proc/PID/stat counts in (USER_HZ).
cpuTime() {
	local stat
	stat=$(cat "/proc/$1/stat" 2>/dev/null) || { echo 0; return; }
	# shellcheck disable=SC2086 # fields; the name, in brackets, may have blanks
	set -- ${stat##*) }
	echo $((${12} + ${13}))
}

# awaits PID CONSOLE LIMIT [COMMAND...]: waits until the process, a virtual
# machine, ends, or until COMMAND succeeds. Returns 1 if nothing is written to the
# file CONSOLE while the machine uses LIMIT seconds of processor time (it spins),
# or less than 2 % of one processor for LIMIT seconds (it idles).
awaits() {
	local pid=$1 console=$2 limit=$3 size=-1 now used spoke=0 from=0 since=$SECONDS
	shift 3
	while kill -0 "$pid" 2>/dev/null; do
		[ $# = 0 ] || ! "$@" || return 0
		now=$(stat -c %s "$console" 2>/dev/null) || now=0
		used=$(cpuTime "$pid")
		if [ "$now" != "$size" ]; then
			size=$now spoke=$used from=$used since=$SECONDS
		elif [ $((used - spoke)) -ge $((limit * 100)) ]; then
			return 1
		elif [ $((SECONDS - since)) -ge "$limit" ]; then
			[ $((used - from)) -ge $((limit * 2)) ] || return 1
			from=$used since=$SECONDS
		fi
		sleep 0.1
	done
}
