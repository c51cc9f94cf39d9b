# Common part of the libraries' makefiles. Before including it: NAME, SOURCES (paths in pgext/).
# Objects go to build/<name>/, the library to build/<name>.so; BUILD names another place.
PG_CONFIG ?= /usr/lib/postgresql/15/bin/pg_config
TOP = ..
BUILD ?= $(TOP)/build

MODULE_big = $(BUILD)/$(LIBRARY)
OBJS = $(patsubst %.c,$(BUILD)/$(LIBRARY)/%.o,$(SOURCES))
# No LLVM bitcode: these libraries have no SQL functions to inline.
override with_llvm = no
# PostgreSQL's own headers do not compile cleanly under -Wextra: system headers are excused.
PG_CPPFLAGS = -isystem $(shell $(PG_CONFIG) --includedir-server) -I$(TOP)
PG_CFLAGS = -std=gnu11 -Wall -Wextra -Werror -fvisibility=hidden $(EXTRA_CFLAGS) $(SANITIZE)
SHLIB_LINK = $(EXTRA_LDFLAGS) $(SANITIZE)

PGXS := $(shell $(PG_CONFIG) --pgxs)
include $(PGXS)

# The server's version is among what it depends on: the library knows one (compute/main.c).
SERVER_VERSION = $(shell $(PG_CONFIG) --includedir-server)/pg_config.h

$(BUILD)/$(LIBRARY)/%.o: $(TOP)/%.c $(SERVER_VERSION) $(wildcard $(TOP)/include/*.h $(TOP)/common/*.h $(TOP)/$(LIBRARY)/*.h)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(CPPFLAGS) -c -o $@ $<
