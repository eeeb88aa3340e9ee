"""From files, or structures in memory, to graphs: what each format holds, and how it is read."""
