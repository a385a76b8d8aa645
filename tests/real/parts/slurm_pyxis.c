/*
 * A stand-in for NVIDIA pyxis: srun gets its --container-* options, and hands each task to a helper program.
 *
 * It shows that options are spelled as pyxis spells them and reach the task; it imports no image and asks for no GPU.
 * Arguments in plugstack.conf: the helper. The helper's: image, mounts, names of --container-env, flags, then the task.
 */
#include <slurm/spank.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

SPANK_PLUGIN(moorage_pyxis, 1);

enum { IMAGE, MOUNTS, ENVIRONMENT, WORKDIR, NAME, TEXTS, NO_HOME, HOME, REMAP, NO_REMAP, NO_ENTRYPOINT, ENTRYPOINT, WRITABLE, READONLY };

static char *texts[TEXTS];
static char flags[256];

static int take(int which, const char *text, int remote)
{
	static const char *const words[] = {"no-home", "home", "remap-root", "no-remap-root", "no-entrypoint", "entrypoint",
					    "writable", "readonly"};
	(void)remote;
	if (which < TEXTS) {
		if (text == NULL || *text == '\0') {
			slurm_error("pyxis: argument required");
			return -1;
		}
		free(texts[which]);
		texts[which] = strdup(text);
		return 0;
	}
	if (strlen(flags) + 32 < sizeof flags)
		strcat(strcat(flags, words[which - TEXTS - 1]), ",");
	return 0;
}

static struct spank_option options[] = {
	{"container-image", "[USER@][REGISTRY#]IMAGE[:TAG]|PATH", "[pyxis] the image", 1, IMAGE, take},
	{"container-mounts", "SRC:DST[:FLAGS][,SRC:DST...]", "[pyxis] bind mounts", 1, MOUNTS, take},
	{"container-env", "NAME[,NAME...]", "[pyxis] variables that win over the image's", 1, ENVIRONMENT, take},
	{"container-workdir", "PATH", "[pyxis] working directory", 1, WORKDIR, take},
	{"container-name", "NAME", "[pyxis] name", 1, NAME, take},
	{"no-container-mount-home", NULL, "[pyxis] do not mount the home directory", 0, NO_HOME, take},
	{"container-mount-home", NULL, "[pyxis] mount the home directory", 0, HOME, take},
	{"container-remap-root", NULL, "[pyxis] be root inside", 0, REMAP, take},
	{"no-container-remap-root", NULL, "[pyxis] do not be root inside", 0, NO_REMAP, take},
	{"no-container-entrypoint", NULL, "[pyxis] do not run the entrypoint", 0, NO_ENTRYPOINT, take},
	{"container-entrypoint", NULL, "[pyxis] run the entrypoint", 0, ENTRYPOINT, take},
	{"container-writable", NULL, "[pyxis] writable file system", 0, WRITABLE, take},
	{"container-readonly", NULL, "[pyxis] read-only file system", 0, READONLY, take},
	SPANK_OPTIONS_TABLE_END};

int slurm_spank_init(spank_t spank, int count, char **arguments)
{
	(void)count;
	(void)arguments;
	for (int at = 0; options[at].name != NULL; at++)
		if (spank_option_register(spank, &options[at]) != ESPANK_SUCCESS)
			return -1;
	return 0;
}

int slurm_spank_task_init(spank_t spank, int count, char **arguments)
{
	char **task = NULL, **environment = NULL, **command;
	int words = 0, at = 0;

	if (texts[IMAGE] == NULL)
		return 0;
	if (count < 1 || spank_get_item(spank, S_JOB_ARGV, &words, &task) != ESPANK_SUCCESS ||
	    spank_get_item(spank, S_JOB_ENV, &environment) != ESPANK_SUCCESS)
		return -1;
	command = calloc((size_t)words + 8, sizeof *command);
	command[at++] = arguments[0];
	for (int which = IMAGE; which <= ENVIRONMENT; which++)
		command[at++] = texts[which] ? texts[which] : "";
	command[at++] = flags;
	for (int word = 0; word < words; word++)
		command[at++] = task[word];
	execve(command[0], command, environment);
	slurm_error("pyxis: %s cannot be run: %m", command[0]);
	return -1;
}
