// Resource managers and the records of theirs that are more than changes to the pages they name.
// Sources: access/rmgrlist.h and the *_xlog.h header of each. Info values are to be compared with
// `info & 0xF0`, XACT, HEAP and HEAP2 with `info & 0x70`.

export const RM = {
  XLOG: 0,
  XACT: 1,
  SMGR: 2,
  CLOG: 3,
  DBASE: 4,
  TBLSPC: 5,
  MULTIXACT: 6,
  RELMAP: 7,
  STANDBY: 8,
  HEAP2: 9,
  HEAP: 10,
  BTREE: 11,
  HASH: 12,
  GIN: 13,
  GIST: 14,
  SEQ: 15,
  SPGIST: 16,
  BRIN: 17,
  COMMIT_TS: 18,
  REPLORIGIN: 19,
  GENERIC: 20,
  LOGICALMSG: 21,
  /** RM_MIN_CUSTOM_ID: an extension's, up to 255. */
  CUSTOM_MIN: 128,
} as const;

/** XLOG (catalog/pg_control.h). */
export const XLOG = {
  CHECKPOINT_SHUTDOWN: 0x00,
  CHECKPOINT_ONLINE: 0x10,
  NOOP: 0x20,
  NEXTOID: 0x30,
  SWITCH: 0x40,
  BACKUP_END: 0x50,
  PARAMETER_CHANGE: 0x60,
  RESTORE_POINT: 0x70,
  FPW_CHANGE: 0x80,
  END_OF_RECOVERY: 0x90,
  FPI_FOR_HINT: 0xa0,
  FPI: 0xb0,
  OVERWRITE_CONTRECORD: 0xd0,
  /** 17 and later. */
  CHECKPOINT_REDO: 0xe0,
} as const;

/** XACT, HEAP and HEAP2 keep their highest info bit for a flag. */
export const OPERATION_MASK = 0x70;

/** XACT (access/xact.h). */
export const XACT = {
  COMMIT: 0x00,
  PREPARE: 0x10,
  ABORT: 0x20,
  COMMIT_PREPARED: 0x30,
  ABORT_PREPARED: 0x40,
  ASSIGNMENT: 0x50,
  INVALIDATIONS: 0x60,
} as const;

/** SMGR (catalog/storage_xlog.h). */
export const SMGR = { CREATE: 0x10, TRUNCATE: 0x20 } as const;

/** CLOG (access/clog.h). */
export const CLOG = { ZEROPAGE: 0x00, TRUNCATE: 0x10 } as const;

/** DBASE of 15 and later (commands/dbcommands_xlog.h). 14: CREATE is 0x00, DROP is 0x10. */
export const DBASE = { CREATE_FILE_COPY: 0x00, CREATE_WAL_LOG: 0x10, DROP: 0x20 } as const;
export const DBASE_DROP_14 = 0x10;

/** TBLSPC (commands/tablespace.h). */
export const TBLSPC = { CREATE: 0x00, DROP: 0x10 } as const;

/** MULTIXACT (access/multixact.h). */
export const MULTIXACT = {
  ZERO_OFFSETS_PAGE: 0x00,
  ZERO_MEMBERS_PAGE: 0x10,
  CREATE_ID: 0x20,
  TRUNCATE_ID: 0x30,
} as const;

/** RELMAP (utils/relmapper.h). */
export const RELMAP = { UPDATE: 0x00 } as const;

/** STANDBY (storage/standbydefs.h). */
export const STANDBY = { LOCK: 0x00, RUNNING_XACTS: 0x10, INVALIDATIONS: 0x20 } as const;

/** HEAP2 (access/heapam_xlog.h). 17 calls 0x10 to 0x30 PRUNE_ON_ACCESS, VACUUM_SCAN, VACUUM_CLEANUP. */
export const HEAP2 = {
  REWRITE: 0x00,
  PRUNE: 0x10,
  VACUUM: 0x20,
  FREEZE_PAGE: 0x30,
  VISIBLE: 0x40,
  MULTI_INSERT: 0x50,
  LOCK_UPDATED: 0x60,
  NEW_CID: 0x70,
} as const;

/** HEAP (access/heapam_xlog.h). */
export const HEAP = {
  INSERT: 0x00,
  DELETE: 0x10,
  UPDATE: 0x20,
  TRUNCATE: 0x30,
  HOT_UPDATE: 0x40,
  CONFIRM: 0x50,
  LOCK: 0x60,
  INPLACE: 0x70,
} as const;

/** REPLORIGIN (replication/origin.h). */
export const REPLORIGIN = { SET: 0x00, DROP: 0x10 } as const;

/** LOGICALMSG (replication/message.h). */
export const LOGICALMSG = { MESSAGE: 0x00 } as const;
