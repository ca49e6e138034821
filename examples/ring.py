"""A number goes around all ranks, and each adds its own: mpilaunch -n 4 --stage ring.py python3 ring.py"""
from mpi4py import MPI

world = MPI.COMM_WORLD
rank, size = world.Get_rank(), world.Get_size()

total = rank + (world.recv(source=rank - 1) if rank > 0 else 0)
world.send(total, dest=(rank + 1) % size)
if rank == 0:
    total = world.recv(source=size - 1)
    print(f"ring of {size} ranks: the sum of all ranks is {total}")
