// Paths to a tree. A node whose parent is not there stands at the top, so that none is lost.

import type { TreeNodeInfo } from "../protocol/api-status.ts";

export interface TreeNode {
  readonly info: TreeNodeInfo;
  readonly children: TreeNode[];
}

/** Children in the order in which they are given, however it mixes with their parents'. */
export function nest(infos: readonly TreeNodeInfo[]): readonly TreeNode[] {
  const nodes = new Map<string, TreeNode>();
  for (const info of infos) nodes.set(info.path, { info, children: [] });
  const top: TreeNode[] = [];
  for (const node of nodes.values()) {
    const { path } = node.info;
    const parent = nodes.get(path.slice(0, Math.max(0, path.lastIndexOf("/"))));
    if (parent === undefined || parent === node) top.push(node);
    else parent.children.push(node);
  }
  return top;
}
