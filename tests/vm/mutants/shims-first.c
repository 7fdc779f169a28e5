/*
 * A remove hook that begins with the mistake which the design forbids: it kills every shim of the snap, and only then runs
 * the real teardown. Under the plug sets that may not signal pods, nobody can reach those pods any more.
 */
#include <ctype.h>
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int is_our_shim(const char *pid, const char *common)
{
	char path[64], words[4096];
	FILE *file;
	size_t size;

	snprintf(path, sizeof path, "/proc/%.16s/cmdline", pid);
	file = fopen(path, "r");
	if (!file)
		return 0;
	size = fread(words, 1, sizeof words - 1, file);
	fclose(file);
	for (size_t i = 0; i < size; i++)
		if (!words[i])
			words[i] = ' ';
	words[size] = 0;
	return strstr(words, "containerd-shim") && strstr(words, common);
}

int main(void)
{
	const char *common = getenv("SNAP_COMMON"), *snap = getenv("SNAP");
	DIR *proc = opendir("/proc");
	struct dirent *entry;
	char program[512];

	while (common && proc && (entry = readdir(proc)))
		if (isdigit(entry->d_name[0]) && is_our_shim(entry->d_name, common))
			kill(atoi(entry->d_name), SIGKILL);
	snprintf(program, sizeof program, "%s/bin/snap-teardown", snap ? snap : "");
	execl(program, program, "remove", (char *)NULL);
	perror("shims-first");
	return 2;
}
