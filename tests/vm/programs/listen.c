/*
 * The pod that holds a port: listen PORT. Answers each connection on 127.0.0.1 with one line until SIGTERM.
 *
 * If the port is taken it ends with status 1: that is how a pod of an earlier installation would show itself.
 */
#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static void stop(int signal_number)
{
	(void)signal_number;
	_exit(0);
}

int main(int argc, char **argv)
{
	static const char line[] = "alive\n";
	int on = 1;
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (argc != 2) {
		fprintf(stderr, "usage: listen PORT\n");
		return 2;
	}
	/* The first process of a pid namespace gets no signal that it has not asked for. */
	signal(SIGTERM, stop);
	signal(SIGPIPE, SIG_IGN);
	address.sin_port = htons((unsigned short)atoi(argv[1]));
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 8)) {
		perror("listen");
		return 1;
	}
	for (;;) {
		int client = accept(listener, NULL, NULL);

		if (client >= 0) {
			if (write(client, line, sizeof line - 1) < 0)
				perror("write");
			close(client);
		}
	}
}
