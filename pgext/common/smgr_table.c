/*
 * Finding and replacing the server's storage manager table: see smgr_table.h. Writing is done
 * with the page protection lifted for that moment, as the table lies in memory that the loader
 * made read-only after relocation.
 */
#include "common/smgr_table.h"

#include <dlfcn.h>
#include <link.h>
#include <sys/mman.h>
#include <unistd.h>

#include "storage/md.h"

SmgrTable	smgr_table_original;

typedef struct Search
{
	const SmgrTable *wanted;
	SmgrTable  *found;
	int			matches;
	bool		read_only;		/* in the loader's read-only region */
} Search;

static bool
within(uintptr_t at, size_t size, uintptr_t base, const ElfW(Phdr) *segment)
{
	uintptr_t	start = base + segment->p_vaddr;

	return at >= start && at + size <= start + segment->p_memsz;
}

/* Called by dl_iterate_phdr; the first object is the main program. Non-zero ends the iteration. */
static int
search_main_program(struct dl_phdr_info *object, size_t size, void *arg)
{
	Search	   *search = arg;

	(void) size;
	for (int i = 0; i < object->dlpi_phnum; i++)
	{
		const		ElfW(Phdr) *segment = &object->dlpi_phdr[i];
		uintptr_t	at = TYPEALIGN(sizeof(void *), object->dlpi_addr + segment->p_vaddr);

		if (segment->p_type != PT_LOAD || (segment->p_flags & PF_W) == 0)
			continue;
		for (; within(at, sizeof(SmgrTable), object->dlpi_addr, segment); at += sizeof(void *))
		{
			if (memcmp((const void *) at, search->wanted, sizeof(SmgrTable)) != 0)
				continue;
			search->matches++;
			search->found = (SmgrTable *) at;
		}
	}
	for (int i = 0; search->found != NULL && i < object->dlpi_phnum; i++)
	{
		const		ElfW(Phdr) *segment = &object->dlpi_phdr[i];

		if (segment->p_type == PT_GNU_RELRO &&
			within((uintptr_t) search->found, sizeof(SmgrTable), object->dlpi_addr, segment))
			search->read_only = true;
	}
	return 1;
}

const char *
smgr_table_replace(const SmgrTable *ours)
{
	const SmgrTable md = {
		mdinit, NULL, mdopen, mdclose, mdcreate, mdexists, mdunlink, mdextend, mdprefetch,
		mdread, mdwrite, mdwriteback, mdnblocks, mdtruncate, mdimmedsync,
	};
	Search		search = {.wanted = &md};
	uintptr_t	page_bytes = (uintptr_t) sysconf(_SC_PAGESIZE);
	uintptr_t	start,
				end;

	/* smgrtruncate2 came in the same commit as truncate's old_blocks; the module magic cannot tell. */
	if (dlsym(RTLD_DEFAULT, "smgrtruncate2") == NULL)
		return "this PostgreSQL 15 is older than 15.11: its storage manager interface differs";

	dl_iterate_phdr(search_main_program, &search);
	if (search.matches == 0)
		return "the storage manager table was not found in the server program";
	if (search.matches != 1)
		return "the storage manager table was found more than once in the server program";

	start = (uintptr_t) search.found & ~(page_bytes - 1);
	end = TYPEALIGN(page_bytes, (uintptr_t) search.found + sizeof(SmgrTable));
	if (mprotect((void *) start, end - start, PROT_READ | PROT_WRITE) != 0)
		return "the storage manager table's memory cannot be made writable";
	smgr_table_original = *search.found;
	memcpy(search.found, ours, sizeof(SmgrTable));
	if (search.read_only && mprotect((void *) start, end - start, PROT_READ) != 0)
		return "the storage manager table's memory cannot be made read-only again";
	return NULL;
}
