"""Slice and 3D views off screen on real MRML: what Slicer's own displayable managers draw of a scene, as arrays.

For pictures and tests without the application; needs OpenGL (EGL with Mesa's software driver will do). Where there is
none VTK ends the process: use it in a process of its own.
"""

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

SLICE = ("vtkMRMLSegmentationsDisplayableManager2D", "vtkMRMLCrosshairDisplayableManager")
THREE_D = (
    "vtkMRMLCameraDisplayableManager",
    "vtkMRMLViewDisplayableManager",
    "vtkMRMLModelDisplayableManager",
    "vtkMRMLSegmentationsDisplayableManager3D",
)


def prepare(host):
    """Give a SceneHost what views need; call it once, before the scene holds anything."""
    host.application.SetSliceLogics(vtk.vtkCollection())
    host.application.SetViewLogics(vtk.vtkCollection())
    slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(host.scene, True)


class View:
    """A window without a screen, drawn by the displayable managers of a view node."""

    def __init__(self, host, factory, managers, size):
        self.renderer, self.window = vtk.vtkRenderer(), vtk.vtkRenderWindow()
        self.window.SetOffScreenRendering(True)
        self.window.SetMultiSamples(0)
        self.window.SetSize(*size)
        self.window.AddRenderer(self.renderer)
        self._interactor = vtk.vtkRenderWindowInteractor()
        self._interactor.SetRenderWindow(self.window)
        self._interactor.Initialize()  # the managers ask for it when they are made
        kind = factory.GetInstance()
        kind.SetMRMLApplicationLogic(host.application)
        for name in managers:
            if not kind.IsDisplayableManagerRegistered(name):
                kind.RegisterDisplayableManager(name)
        self._group = slicer.vtkMRMLDisplayableManagerGroup()
        self._group.SetRenderer(self.renderer)
        self._group.Initialize(kind, self.renderer)

    def picture(self):
        """What is seen, (height, width, 3) uint8, the top row first."""
        self.window.Render()
        grabber = vtk.vtkWindowToImageFilter()
        grabber.SetInput(self.window)
        grabber.ReadFrontBufferOff()
        grabber.Update()
        image = grabber.GetOutput()
        width, height, _ = image.GetDimensions()
        return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(height, width, 3)[::-1].copy()


class SliceView(View):
    """One slice through a volume, with the segmentations that are visible there."""

    def __init__(self, host, name="Red", orientation="Axial", size=(400, 400)):
        super().__init__(host, slicer.vtkMRMLSliceViewDisplayableManagerFactory, SLICE, size)
        self.renderer.GetActiveCamera().ParallelProjectionOn()
        self.logic = slicer.vtkMRMLSliceLogic()
        self.logic.SetMRMLApplicationLogic(host.application)
        host.application.GetSliceLogics().AddItem(self.logic)
        self.logic.SetMRMLScene(host.scene)
        self.node = self.logic.AddSliceNode(name)
        self.node.SetOrientation(orientation)
        self._group.SetMRMLDisplayableNode(self.node)
        # the application's image layer belongs to a widget: it is drawn here by hand
        self._mapper, self._image = vtk.vtkImageMapper(), vtk.vtkActor2D()
        self._mapper.SetColorWindow(255)
        self._mapper.SetColorLevel(127.5)
        self._image.SetMapper(self._mapper)
        behind = vtk.vtkRenderer()  # a layer of its own, or the fill of segments would not let it through
        behind.AddViewProp(self._image)
        self.window.SetNumberOfLayers(2)
        self.renderer.SetLayer(1)
        self.window.AddRenderer(behind)
        self.logic.AddObserver(vtk.vtkCommand.ModifiedEvent, self._connect)
        self._connect()

    def _connect(self, *_):
        connection = self.logic.GetImageDataConnection()
        self._image.SetVisibility(connection is not None)
        if connection is not None:
            self._mapper.SetInputConnection(connection)

    def show(self, volume, ras=None):
        """Put a volume behind, fit it to the window, and go to a point (R, A, S in mm)."""
        self.logic.GetSliceCompositeNode().SetBackgroundVolumeID(volume.GetID())
        self.logic.ResizeSliceNode(*self.window.GetSize())
        self.logic.FitSliceToBackground()
        if ras is not None:
            self.node.JumpSliceByOffsetting(*ras)


class ThreeDView(View):
    """The surfaces that are visible."""

    def __init__(self, host, name="1", size=(400, 400)):
        super().__init__(host, slicer.vtkMRMLThreeDViewDisplayableManagerFactory, THREE_D, size)
        logic = slicer.vtkMRMLViewLogic()
        logic.SetMRMLApplicationLogic(host.application)
        host.application.GetViewLogics().AddItem(logic)
        logic.SetMRMLScene(host.scene)
        self._logic, self.node = logic, logic.AddViewNode(name)
        self._group.SetMRMLDisplayableNode(self.node)
        self.node.SetBoxVisible(False)
        self.node.SetAxisLabelsVisible(False)

    def look_from(self, direction):
        """See all that is there from a direction (R, A, S)."""
        self.window.Render()
        camera = self.renderer.GetActiveCamera()
        focus = np.array(camera.GetFocalPoint())
        camera.SetPosition(*(focus + np.array(direction, dtype=float)))
        camera.SetViewUp(0, 0, 1)
        self.renderer.ResetCamera()
