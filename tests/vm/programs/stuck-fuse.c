/*
 * A FUSE server that answers nothing after the handshake: stuck-fuse DIRECTORY. It mounts there, prints "ready", and reads
 * requests for ever. Whoever touches the directory then waits in the kernel and cannot be killed: a request that its
 * server has read is waited out (fs/fuse/dev.c). It ends, and frees them, when this program is killed.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

static char request[1 << 17];

int main(int argc, char **argv)
{
	char options[128];
	int device = open("/dev/fuse", O_RDWR | O_CLOEXEC);

	if (argc != 2 || device < 0) {
		fprintf(stderr, "usage: stuck-fuse DIRECTORY (with /dev/fuse: %s)\n", strerror(errno));
		return 2;
	}
	snprintf(options, sizeof options, "fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", device);
	if (mount("stuck", argv[1], "fuse.stuck", 0, options)) {
		perror("mount");
		return 1;
	}
	for (;;) {
		struct fuse_in_header *header = (struct fuse_in_header *)request;
		ssize_t size = read(device, request, sizeof request);

		if (size < 0 && errno == ENODEV)
			return 0; /* unmounted */
		if (size < (ssize_t)sizeof *header || header->opcode != FUSE_INIT)
			continue;
		struct {
			struct fuse_out_header header;
			struct fuse_init_out init;
		} answer = {
			.header = {.len = sizeof answer, .unique = header->unique},
			.init = {.major = FUSE_KERNEL_VERSION, .minor = FUSE_KERNEL_MINOR_VERSION, .max_write = 4096},
		};
		if (write(device, &answer, sizeof answer) != sizeof answer) {
			perror("answer");
			return 1;
		}
		puts("ready");
		fflush(stdout);
	}
}
