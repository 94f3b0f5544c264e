// A process with two threads and memory of its own, which it reads from
// standard input. It prints the memory's address, and ends with its input.
#include <pthread.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

enum { size = 64 * 4096 };

static void *wait(void *unused)
{
	for (;;)
		pause();
}

int main(void)
{
	char c, *b = mmap(0, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	pthread_t t;

	if (b == MAP_FAILED || pthread_create(&t, 0, wait, 0))
		return 1;
	for (long n = 0, got; n < size; n += got)
		if ((got = read(0, b + n, size - n)) <= 0)
			return 1;
	printf("%p\n", (void *)b);
	fflush(stdout);
	read(0, &c, 1);
	return 0;
}
